# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of everything that asks Prometheus (argument spec: PROMETHEUS_OPTIONS)."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment ``lumen.airgap.prometheus``."""

    DOCUMENTATION = r"""
options:
  prometheus:
    description:
      - Where Prometheus is. It is asked through the service proxy of the API server, so that it needs no NodePort,
        unless O(prometheus.url) is given.
    type: dict
    suboptions:
      namespace:
        description: Namespace of the Service.
        type: str
        default: monitoring
      service:
        description: Name of the Service.
        type: str
        default: kube-prometheus-stack-prometheus
      port:
        description: Port of the Service, from 1 to 65535.
        type: int
        default: 9090
      url:
        description:
          - Base URL of Prometheus, used instead of the service proxy, for example V(http://192.168.2.2:30090).
          - It takes no user and no password. Proxies and C(.netrc) of the process' environment are not used, and
            redirects are not followed.
        type: str
      ca_path:
        description: PEM file of the CAs that may have signed Prometheus' certificate. Without it, the machine's.
        type: path
        version_added: 0.4.0
      client_cert_path:
        description: PEM file of the certificate to show to O(prometheus.url); its key may be in it.
        type: path
        version_added: 0.4.0
      client_key_path:
        description: PEM file of the key of O(prometheus.client_cert_path).
        type: path
        version_added: 0.4.0
      validate_certs:
        description: Whether to check the certificate of an C(https) address.
        type: bool
        default: true
        version_added: 0.4.0
      token:
        description: Bearer token for O(prometheus.url).
        type: str
        version_added: 0.4.0
      token_path:
        description: File with the bearer token, in place of O(prometheus.token). It is read for each query.
        type: path
        version_added: 0.4.0
      username:
        description: User of basic authentication at O(prometheus.url). Together with O(prometheus.password).
        type: str
        version_added: 0.4.0
      password:
        description: Password of O(prometheus.username).
        type: str
        version_added: 0.4.0
      timeout:
        description: How long one query may take, in seconds, more than 0.
        type: float
        default: 10.0
"""
