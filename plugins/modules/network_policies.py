#!/usr/bin/python
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A default-deny set of NetworkPolicies."""

from __future__ import annotations

DOCUMENTATION = r"""
module: network_policies
short_description: Deny all traffic of namespaces but for declared flows
version_added: 0.3.0
author:
  - The lumen.airgap maintainers (@lumen-airgap)
description:
  - Makes NetworkPolicies of declared flows, adds plain manifests of them, and brings all into the cluster as one set by
    server-side apply. What the set had before and has no more is deleted.
  - A namespace of O(namespaces) is denied everything, in and out, but for the flows. A flow becomes a policy at each of
    its ends that is in such a namespace. Other namespaces get no policy.
  - Before anything is written, the cluster is judged as it would be, with its pods and the policies of others. The task
    fails when a flow of O(required_flows) would be cut or one of O(forbidden_flows) open, and names policy and
    direction. So it does when pods could not ask the cluster's DNS any more, and when a policy has fields that somebody
    else owns.
  - Only policies of C(networking.k8s.io/v1) are known. Those of a network plugin's own kinds are not judged.
  - Pods on the network of their node are no party to policies, and are left out. So are ended ones.
extends_documentation_fragment:
  - lumen.airgap.kube
  - lumen.airgap.attributes
  - lumen.airgap.attributes.cluster
attributes:
  check_mode:
    support: full
    details:
      - Policies in a namespace that does not exist yet are predicted from what would be sent, and marked as not
        verified.
      - Nothing is probed.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  name:
    description:
      - Name of the set. The names of its policies begin with it, and the label C(lumen.airgap/policies) has it.
      - Sets of other names are left alone.
    type: str
    default: airgap
  state:
    description:
      - V(absent) deletes all policies of the set. O(forbidden_flows) that would be open then refuse that.
      - Namespaces stay in any case.
    type: str
    choices: [present, absent]
    default: present
  namespaces:
    description: Namespaces that are denied everything by default.
    type: list
    elements: str
    default: []
  flows:
    description: What is allowed. A flow that has no end in one of O(namespaces) makes no policy.
    type: list
    elements: dict
    default: []
    suboptions: &flow
      name:
        description: Name of the flow, of lower case letters, digits and V(-). It becomes a part of the policy's name.
        type: str
        required: true
      from:
        description:
          - Who opens connections. One end, or a list of them.
          - A dictionary with C(namespace), the name of a namespace or a list of names, is their pods; C(pods), a label
            selector, narrows them.
          - A dictionary with C(cidr) is a block of addresses; those listed in C(except) are not meant.
          - V(dns) are the pods of O(dns), V(apiserver) the addresses of the API servers, V(nodes) those of the nodes,
            and V(anywhere) is everybody.
        type: raw
        required: true
      to:
        description: Who answers, as O(flows[].from).
        type: raw
        required: true
      ports:
        description:
          - The ports that are open, each with C(port) (a number, or a name that the containers declare), C(protocol)
            (V(TCP), V(UDP) or V(SCTP), default V(TCP)) and C(end_port) for a range. A plain number is a TCP port.
          - Without ports, those of V(dns) and V(apiserver) are known, and to other ends all ports are open.
          - Of required and forbidden flows each port is one number.
        type: list
        elements: raw
        default: []
  definitions:
    description: NetworkPolicies as they are, with their namespaces. They become a part of the set.
    type: list
    elements: dict
    default: []
  src:
    description:
      - Files with NetworkPolicies in YAML, one or many documents, where the module runs. Of a directory, all its
        C(*.yaml) and C(*.yml).
    type: list
    elements: path
    default: []
  required_flows:
    description: Flows that must be open in the end, between each pod of one end and each of the other.
    type: list
    elements: dict
    default: []
    suboptions: *flow
  forbidden_flows:
    description:
      - Flows that must be closed in the end, between any pods of the two ends.
      - Of a block of addresses, the first and the last are asked. V(anywhere) is every pod, and an address outside.
    type: list
    elements: dict
    default: []
    suboptions: *flow
  apiserver_addresses:
    description:
      - Addresses that V(apiserver) stands for.
      - Without them, the endpoints of the Service C(kubernetes) in namespace C(default).
    type: list
    elements: str
    default: []
  apiserver_ports:
    description: Ports of O(apiserver_addresses).
    type: list
    elements: int
    default: [6443]
  node_addresses:
    description:
      - Addresses that V(nodes) stands for. Without them, the internal addresses of all nodes.
      - On a network with tunnels, add the addresses of the tunnels' ends to both O(node_addresses) and
        O(apiserver_addresses), because that is where traffic from another node comes from.
    type: list
    elements: str
    default: []
  dns:
    description: The pods that V(dns) stands for.
    type: dict
    suboptions:
      namespace:
        description: Their namespace.
        type: str
        default: kube-system
      labels:
        description: Their labels.
        type: dict
        default: {k8s-app: kube-dns}
  create_namespaces:
    description: Whether namespaces of the policies that do not exist are created. Otherwise the task fails.
    type: bool
    default: false
  allow_dns_cut:
    description: Whether pods may be cut off from the cluster's DNS.
    type: bool
    default: false
  force:
    description: Whether fields that somebody else owns are taken over.
    type: bool
    default: false
  probe:
    description:
      - Whether to prove afterwards that the network enforces policies.
      - For each flow of O(probe_flows), a pod with the labels of its source asks a pod with the labels of its target on
        a port that is allowed and on one that is not. Both never become ready, belong to Jobs, and are removed at the
        end. When the module is killed, the cluster removes them.
      - The result is in RV(enforcement). It does not fail the task.
    type: bool
    default: false
  probe_image:
    description: Image of the probe, which comes with the collection. Required with O(probe=true).
    type: str
  probe_flows:
    description:
      - Names of the flows to prove. They need pods at both ends and a TCP port by number.
      - Without names, the first one of O(flows) that fits.
    type: list
    elements: str
    default: []
  probe_deadline:
    description: Seconds that one probe may take, until its pods have answered.
    type: float
    default: 60
requirements:
  - PyYAML (Python library, with O(src))
seealso:
  - module: kubernetes.core.k8s
"""

EXAMPLES = r"""
- name: Deny everything in two namespaces, but for what is known to be needed
  lumen.airgap.network_policies:
    namespaces: [lumen, monitoring]
    flows:
      - name: dns
        from: {namespace: [lumen, monitoring]}
        to: dns
      - name: scrape
        from: {namespace: monitoring, pods: {matchLabels: {app: prometheus}}}
        to: {namespace: lumen}
        ports: [{port: 8080}]
      - name: queries
        from: apiserver
        to: {namespace: monitoring, pods: {matchLabels: {app: prometheus}}}
        ports: [{port: 9090}]
    src:
      - 03-airgap-zone/manifests/network-policies
    required_flows:
      - name: analysis
        from: {namespace: argo-rollouts}
        to: {namespace: monitoring}
        ports: [{port: 9090}]
    forbidden_flows:
      - name: out
        from: {namespace: lumen}
        to: {cidr: 203.0.113.0/24}
        ports: [{port: 443}]

- name: The same, and prove that it works
  lumen.airgap.network_policies:
    namespaces: [lumen]
    flows: "{{ my_flows }}"
    probe: true
    probe_image: 192.168.2.2:5000/probe:lab
  register: policies
  failed_when: policies is failed or policies.enforcement != 'enforced'

- name: Take the set away
  lumen.airgap.network_policies:
    state: absent
"""

RETURN = r"""
changes:
  description: What was done with each object, or would be. Those that were right already are only counted.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: Kind of the object.
      type: str
      sample: NetworkPolicy
    namespace:
      description: Its namespace, null for a Namespace.
      type: str
      sample: lumen
    name:
      description: Its name.
      type: str
      sample: airgap-scrape-ingress
    action:
      description: V(created), V(updated) or V(deleted).
      type: str
      sample: created
    verified:
      description: V(false) when check mode could not ask the API server, because the namespace is not there yet.
      type: bool
      sample: true
policies:
  description: How many policies the set has now.
  returned: success
  type: int
  sample: 24
unchanged:
  description: How many of them were right already.
  returned: success
  type: int
  sample: 23
unused_flows:
  description: Flows that made no policy, since none of their ends is in a denied namespace.
  returned: success
  type: list
  elements: str
  sample: []
reachability:
  description: Who reaches the declared ports of the pods in the namespaces of the set, with this set in place.
  returned: success
  type: list
  elements: dict
  contains:
    to:
      description: Namespace and app of the pods that answer.
      type: str
      sample: monitoring/prometheus
    port:
      description: Their port.
      type: int
      sample: 9090
    protocol:
      description: Its protocol.
      type: str
      sample: TCP
    from:
      description: Who reaches it, by namespace and app. V(outside) is an address outside the cluster.
      type: list
      elements: str
      sample: [argo-rollouts/argo-rollouts]
    some:
      description: The same where it holds for some of the pods only.
      type: list
      elements: str
      sample: []
dns_cut:
  description: Pods that cannot ask the cluster's DNS because of the set, which O(allow_dns_cut) allows.
  returned: success
  type: list
  elements: str
  sample: []
violations:
  description: What refused the set.
  returned: when the judgement refused it
  type: list
  elements: dict
  contains:
    rule:
      description: V(required), V(forbidden) or V(dns).
      type: str
      sample: required
    flow:
      description: Name of the flow.
      type: str
      sample: analysis
    source:
      description: Who asks, a pod as C(namespace/name) or an address. In brackets, labels of a pod that may come.
      type: str
      sample: argo-rollouts/(app=argo-rollouts)
    target:
      description: Who answers.
      type: str
      sample: monitoring/prometheus-7c9d5
    port:
      description: The port.
      type: int
      sample: 9090
    protocol:
      description: Its protocol.
      type: str
      sample: TCP
    direction:
      description: Which side denies it, V(egress) of the source or V(ingress) of the target. Empty when it is open.
      type: str
      sample: egress
    policies:
      description: The policies that do, or those that allow it, as C(namespace/name).
      type: list
      elements: str
      sample: [argo-rollouts/airgap-default-deny]
enforcement:
  description: V(enforced), V(not_enforced) or V(unknown), the worst of RV(probes). V(unknown) when nothing was probed.
  returned: success
  type: str
  sample: enforced
probes:
  description: What each probe showed.
  returned: success
  type: list
  elements: dict
  contains:
    flow:
      description: Name of the flow.
      type: str
      sample: scrape
    verdict:
      description: V(enforced), V(not_enforced) or V(unknown).
      type: str
      sample: enforced
    message:
      description: What was seen.
      type: str
      sample: port 8080 answered and port 18080 did not, from node-2 to node-1
applied:
  description: What was done before it failed, as RV(changes).
  returned: when applying failed
  type: list
  elements: dict
  sample: []
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.adapters.kube.session import Session
from ..module_utils.engines.netpol.flows import Surroundings
from ..module_utils.entry import run_module
from ..module_utils.options import KUBE_OPTIONS, SECONDS, check_ranges
from ..module_utils.services.apply import UNCHANGED
from ..module_utils.services.network_policies import PolicySet, ensure, read_manifests
from ..module_utils.services.network_probe import NOT_ENFORCED, choose, overall, probe
from ..module_utils.times import Clock, SystemClock

_FLOWS: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "name": {"type": "str", "required": True},
        "from": {"type": "raw", "required": True},
        "to": {"type": "raw", "required": True},
        "ports": {"type": "list", "elements": "raw", "default": []},
    },
}
ARGUMENT_SPEC: dict[str, Any] = {
    **KUBE_OPTIONS,
    "name": {"type": "str", "default": "airgap"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "namespaces": {"type": "list", "elements": "str", "default": []},
    "flows": _FLOWS,
    "definitions": {"type": "list", "elements": "dict", "default": []},
    "src": {"type": "list", "elements": "path", "default": []},
    "required_flows": _FLOWS,
    "forbidden_flows": _FLOWS,
    "apiserver_addresses": {"type": "list", "elements": "str", "default": []},
    "apiserver_ports": {"type": "list", "elements": "int", "default": [6443]},
    "node_addresses": {"type": "list", "elements": "str", "default": []},
    "dns": {
        "type": "dict",
        "apply_defaults": True,
        "options": {
            "namespace": {"type": "str", "default": "kube-system"},
            "labels": {"type": "dict", "default": {"k8s-app": "kube-dns"}},
        },
    },
    "create_namespaces": {"type": "bool", "default": False},
    "allow_dns_cut": {"type": "bool", "default": False},
    "force": {"type": "bool", "default": False},
    "probe": {"type": "bool", "default": False},
    "probe_image": {"type": "str"},
    "probe_flows": {"type": "list", "elements": "str", "default": []},
    "probe_deadline": {"type": "float", "default": 60.0},
}
REQUIRED_IF = [("probe", True, ["probe_image"])]
RANGES = {"probe_deadline": SECONDS}


def policies(params: dict[str, Any], session: Session, clock: Clock, dry_run: bool, diff: bool) -> dict[str, Any]:
    """What the module does, with its validated parameters."""
    present = params["state"] == "present"
    wanted = PolicySet.of(
        params["name"],
        params["flows"],
        params["required_flows"],
        params["forbidden_flows"],
        namespaces=params["namespaces"],
        manifests=read_manifests(params["definitions"], params["src"]) if present else [],
        surroundings=Surroundings(
            api_server=params["apiserver_addresses"],
            api_server_ports=params["apiserver_ports"],
            nodes=params["node_addresses"],
            dns_namespace=params["dns"]["namespace"],
            dns_labels=params["dns"]["labels"],
        ),
        **{name: params[name] for name in ("create_namespaces", "allow_dns_cut", "force")},
    )
    proved = choose(wanted.flows, params["probe_flows"]) if params["probe"] and present else []
    done = ensure(session, wanted, present, dry_run)
    findings = []
    if not dry_run:
        findings = probe(session, clock, done.prediction, proved, params["probe_image"], params["probe_deadline"])
    changes = done.outcome.as_list()
    return {
        "changed": done.outcome.changed,
        **({"diff": done.outcome.diff} if diff else {}),
        "changes": [change for change in changes if change["action"] != UNCHANGED],
        "policies": done.policies,
        "unchanged": sum(change["action"] == UNCHANGED for change in changes),
        "unused_flows": done.unused,
        "reachability": done.reachability,
        "dns_cut": [violation.source for violation in done.lost],
        "enforcement": overall(findings),
        "probes": [finding._asdict() for finding in findings],
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, required_if=REQUIRED_IF, supports_check_mode=True)

    def call() -> dict[str, Any]:
        check_ranges(module.params, RANGES)
        session = Session.connect(module.params["kubeconfig"], module.params["context"])
        result = policies(module.params, session, SystemClock(), module.check_mode, module._diff)
        for finding in result["probes"]:
            if finding["verdict"] == NOT_ENFORCED:
                module.warn(f"flow {finding['flow']}: {finding['message']}")
        if result["unused_flows"]:
            module.warn(f"No namespace that is denied has a part in: {', '.join(result['unused_flows'])}")
        return result

    run_module(module, call)


if __name__ == "__main__":
    main()
