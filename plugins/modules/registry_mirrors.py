#!/usr/bin/python
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action registry_mirrors."""

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_mirrors
short_description: Tell containerd or k3s on a node where to pull images from
version_added: 0.2.0
author:
  - The lumen.airgap maintainers (@lumen-airgap)
description:
  - For containerd writes C(certs.d/<registry>/hosts.toml), which containerd reads at each pull, and sets C(config_path)
    in its C(config.toml) where it is not set.
  - For k3s writes C(registries.yaml).
  - What others wrote in these files stays, with its comments. Their endpoints keep their place, and new ones come
    behind them.
  - An option of a mirror that is not given leaves what the file says.
  - A service is restarted only when something changed that it reads at its start. A restart that did not happen because
    a run was killed is made up for by the next one.
  - The files are read and written by modules of Ansible and merged where C(ansible-playbook) runs, so that the node
    needs no Python library.
extends_documentation_fragment:
  - lumen.airgap.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - Credentials and HTTP headers are hidden in the diff.
  idempotent:
    support: full
options:
  mirrors:
    description: The registries and their mirrors, each registry once.
    type: list
    elements: dict
    required: true
    suboptions:
      registry:
        description:
          - The registry as image names have it, for example V(docker.io) or V(192.168.2.2:5000).
          - V(_default) stands for every registry that has no entry of its own.
        type: str
        required: true
      endpoints:
        description: URLs that are asked for its images, the first one first.
        type: list
        elements: str
        required: true
      server:
        description:
          - URL that containerd asks when no endpoint has the image.
          - Without it and without one in the file, the endpoint with the registry's own address, or else the registry
            by HTTPS. k3s always asks the registry by HTTPS.
        type: str
      capabilities:
        description:
          - What containerd uses the endpoints for. Default for a new endpoint is V(pull) and V(resolve).
          - k3s knows no such thing.
        type: list
        elements: str
        choices: [pull, resolve, push]
      ca_path:
        description: Path on the node of the CA's certificate in PEM.
        type: str
      ca_content:
        description: The CA's certificate in PEM. It is written beside the file that names it.
        type: str
      client_cert_path:
        description: Path on the node of a client certificate in PEM.
        type: str
      client_key_path:
        description: Path on the node of its key.
        type: str
      skip_verify:
        description: Whether any certificate of the endpoints is accepted.
        type: bool
      username:
        description: User at the endpoints.
        type: str
      password:
        description:
          - Password of O(mirrors[].username). A file that has it is readable by its owner alone.
          - For containerd it becomes a header of basic authentication in C(hosts.toml). containerd 1 does not send that
            to a token service of another address.
        type: str
      rewrite:
        description:
          - Changes of the repository at the endpoints.
          - For containerd only V(^(.*\)$) replaced by V(path/$1), which becomes a path in the endpoint.
        type: list
        elements: dict
        suboptions:
          pattern:
            description: Regular expression in Go's syntax.
            type: str
            required: true
          replacement:
            description: What replaces it. V($1) is its first group.
            type: str
            required: true
  state:
    description:
      - V(absent) removes the endpoints named in O(mirrors), and files that have nothing left.
      - C(config_path) stays set in any case.
    type: str
    choices: [present, absent]
    default: present
  runtime:
    description: Whose files are written. V(auto) is V(k3s) where one of its units is installed, or else V(containerd).
    type: str
    choices: [auto, containerd, k3s]
    default: auto
  certs_path:
    description: Absolute path of the directory with a directory for each registry, for containerd.
    type: str
    default: /etc/containerd/certs.d
  config_path:
    description: Absolute path of containerd's own configuration.
    type: str
    default: /etc/containerd/config.toml
  registries_path:
    description: Absolute path of the file for k3s.
    type: str
    default: /etc/rancher/k3s/registries.yaml
  restart:
    description:
      - Whether to restart containerd, k3s or k3s-agent when it has to read a changed file. Running pods stay.
      - With V(false) that is left to you.
    type: bool
    default: true
requirements:
  - ruamel.yaml (Python library, where C(ansible-playbook) runs)
  - tomlkit (Python library, where C(ansible-playbook) runs)
notes:
  - containerd 1.6, 1.7 and 2 read the same C(hosts.toml).
  - k3s itself was not run with what this writes. Its own parser reads it in a test.
"""

EXAMPLES = r"""
- name: Pull from the registry of the airgap, by HTTP
  lumen.airgap.registry_mirrors:
    mirrors:
      - registry: 192.168.2.2:5000
        endpoints: ["http://192.168.2.2:5000"]

- name: Have it stand for Docker Hub, with TLS, credentials and a path in front
  lumen.airgap.registry_mirrors:
    mirrors:
      - registry: docker.io
        endpoints: ["https://registry.lumen.example:5000"]
        ca_content: "{{ lookup('ansible.builtin.file', 'ca.pem') }}"
        username: nodes
        password: "{{ vault_registry_password }}"
        rewrite:
          - pattern: ^(.*)$
            replacement: hub/$1
"""

RETURN = r"""
runtime:
  description: Whose files these are.
  returned: success
  type: str
  sample: containerd
files:
  description: Files that changed.
  returned: success
  type: list
  elements: str
  sample: [/etc/containerd/certs.d/docker.io/hosts.toml]
restarted:
  description: The unit that was restarted, or would be in check mode; null when none had to be.
  returned: success
  type: str
  sample: containerd
"""
