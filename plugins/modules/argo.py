#!/usr/bin/python
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Installs Argo CD or Argo Rollouts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: argo
short_description: Install Argo CD or Argo Rollouts from a manifest, with images of the site's registry
version_added: 0.3.0
author:
  - The lumen.airgap maintainers (@lumen-airgap)
description:
  - Takes the published manifests as they are, and makes them fit an airgapped site. Every image is rewritten to the
    registry and pinned by the digest that it has there, objects without a namespace get O(namespace), and O(objects)
    are merged in.
  - An image that the registry does not have stops it before anything is applied; all that are missing are named.
  - Everything is applied server-side in one session. CustomResourceDefinitions come first and have to be Established.
    Then it waits until the workloads are Available, and fails within seconds when a pod of theirs cannot start.
  - A core installation of Argo CD has no C(argocd-server) that would make the AppProject C(default) and the signing key
    C(server.secretkey) in the Secret C(argocd-secret). They are made here when they are not there.
  - A component has one owner. When its workloads belong to an Application of Argo CD that exists, this module refuses.
    What kubectl has applied, or an Application that was removed without what it had deployed, is taken over. The fields
    change their owner (C(metadata.managedFields)) and nothing else, so no pod restarts when the manifests say the same.
extends_documentation_fragment:
  - lumen.airgap.attributes
  - lumen.airgap.attributes.cluster
  - lumen.airgap.kube
  - lumen.airgap.registry
  - lumen.airgap.progress
attributes:
  check_mode:
    support: full
    details:
      - What has no namespace or kind yet is reported as created, from what was rendered here, with C(verified) false.
      - What would be taken over from others is reported as updated, also where nothing but its owner changes.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  component:
    description:
      - What the manifests install. It says what else has to be there, and marks the objects with the label
        C(lumen.airgap/<component>).
    type: str
    choices: [argocd, rollouts]
    required: true
  state:
    description:
      - V(present) installs, updates or takes over. Objects of an earlier installation by this module that the manifests
        do not have any more are deleted, definitions excepted.
      - V(absent) deletes what the manifests name. The namespace stays, and so does what the programs have made
        themselves.
      - V(rendered) returns the finished manifests, or writes them to O(dest), and does not speak to the cluster, so
        that they can be put into the repository that an Application reads.
      - V(released) is V(rendered), and also hands what this module or kubectl has applied to Argo CD, whose Application
        is to own it from now on. It should sync with C(ServerSideApply=true).
    type: str
    choices: [present, absent, rendered, released]
    default: present
  manifests:
    description: Paths of YAML files with the manifests, on the machine that the module runs on.
    type: list
    elements: path
    default: []
  content:
    description:
      - Manifests as YAML text, for example what was read from another machine.
      - It is long rather than secret, and is left out of logs for that.
    type: list
    elements: str
    default: []
  objects:
    description:
      - Objects that are merged (RFC 7386, a null removes a key, lists are replaced) into those of the manifests with
        the same group, kind, namespace and name, or added to them.
      - Their images are rewritten as well.
    type: list
    elements: dict
    default: []
  namespace:
    description:
      - Namespace of the objects that name none. It is made when it is not there.
      - Default is V(argocd) or V(argo-rollouts), by O(component).
    type: str
  images:
    description:
      - >-
        What images are called in the registry: the published reference, or its repository for whatever tag, and
        C(name:tag) in the registry. Without a tag the published one is kept.
      - An image that is not named here keeps its repository and tag, as a bundle names it, for example
        C(argoproj/argocd:v3.1.9).
    type: dict
    default: {}
  pin:
    description: Whether images are pinned by digest. Without it, a tag that moves in the registry is another image.
    type: bool
    default: true
  dest:
    description:
      - File to write with O(state=rendered) or O(state=released). Its directory is made when it is not there.
      - Without it the text is returned in RV(content).
    type: path
  purge_definitions:
    description:
      - Whether O(state=absent) deletes the CustomResourceDefinitions too, and with them B(every object of their
        kinds) in the whole cluster, such as all Rollouts with their pods.
    type: bool
    default: false
  replaces:
    description:
      - The Application, as C(namespace/name), that is removed before this module takes over.
      - Check mode removes nothing, and would meet it as the owner. It takes this one as gone.
    type: str
  timeout:
    description: How long it may take until everything is Available, in seconds, more than 0.
    type: float
    default: 180.0
requirements:
  - PyYAML (Python library)
seealso:
  - module: lumen.airgap.argo_application
"""

EXAMPLES = r"""
- name: Install Argo CD without its user interface
  lumen.airgap.argo:
    component: argocd
    manifests: [/srv/manifests/core-install.yaml]
    images:
      quay.io/argoproj/argocd: argocd
      public.ecr.aws/docker/library/redis: redis:7.2.11

- name: Put the finished manifests of Argo Rollouts where Argo CD reads them
  lumen.airgap.argo:
    component: rollouts
    state: rendered
    manifests: [/srv/manifests/install.yaml]
    images:
      quay.io/argoproj/argo-rollouts:latest: argo-rollouts:v1.8.5
    dest: /srv/git/lumen/03-airgap-zone/manifests/argo-rollouts/install.yaml

- name: Install Argo Rollouts on a node that is labelled for it
  lumen.airgap.argo:
    component: rollouts
    manifests: [/srv/manifests/install.yaml]
    images:
      quay.io/argoproj/argo-rollouts:latest: argo-rollouts:v1.8.5
    objects:
      - apiVersion: apps/v1
        kind: Deployment
        metadata:
          name: argo-rollouts
        spec:
          template:
            spec:
              nodeSelector:
                lumen.example/role: platform
"""

RETURN = r"""
objects:
  description: What was done to each object, or would be in check mode. Empty for O(state=rendered).
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: Its kind.
      type: str
      sample: Deployment
    namespace:
      description: Its namespace, null when it has none.
      type: str
      sample: argo-rollouts
    name:
      description: Its name.
      type: str
      sample: argo-rollouts
    action:
      description: V(created), V(updated), V(unchanged) or V(deleted).
      type: str
      sample: created
    verified:
      description: False for what check mode could not ask the API server, since namespace or kind is not there yet.
      type: bool
      sample: true
images:
  description: The images of the manifests. Empty for O(state=absent), which needs none.
  returned: success
  type: list
  elements: dict
  contains:
    source:
      description: As the manifests name it.
      type: str
      sample: quay.io/argoproj/argo-rollouts:latest
    image:
      description: As it was rewritten.
      type: str
      sample: "192.168.2.2:5000/argo-rollouts:v1.8.5\
        @sha256:4bd1f2c9a0b7e6b2f0f5a8a5c8d1e9f3a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2"
    digest:
      description: The digest that the registry has for it.
      type: str
      sample: sha256:4bd1f2c9a0b7e6b2f0f5a8a5c8d1e9f3a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2
content:
  description: The finished manifests as YAML. They can be a megabyte.
  returned: for O(state=rendered) and O(state=released), without O(dest)
  type: str
  sample: |
    ---
    apiVersion: v1
    kind: ServiceAccount
    metadata:
      name: argo-rollouts
      namespace: argo-rollouts
taken_over:
  description: Whether what kubectl or a removed Application had applied was taken over.
  returned: success
  type: bool
  sample: false
missing:
  description: Images that the registry does not have, each with C(image), C(source) and C(places).
  returned: when that is why it failed
  type: list
  elements: dict
  sample:
    - image: 192.168.2.2:5000/redis:7.2.11
      source: public.ecr.aws/docker/library/redis:7.2.11-alpine
      places: ["Deployment argocd-redis, spec.template.spec.containers[0].image"]
application:
  description: The Application that owns the component, as C(namespace/name).
  returned: when that is why it failed
  type: str
  sample: argocd/argo-rollouts
applied:
  description: What was done before it failed, in the form of RV(objects).
  returned: when applying failed
  type: list
  elements: dict
  sample: []
waiting:
  description: What is not ready, each with C(kind), C(namespace), C(name), C(message), C(problems) and C(events).
  returned: when that is why it failed
  type: list
  elements: dict
  sample:
    - kind: Deployment
      namespace: argo-rollouts
      name: argo-rollouts
      message: 0 of 1 updated, 0 available
      problems: ["pod argo-rollouts-5d4: Unschedulable: 0/2 nodes are available: 2 didn't match Pod's node selector."]
      events: []
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.adapters.kube.session import Session
from ..module_utils.adapters.registry import REQUESTS_TRACEBACK, Registry
from ..module_utils.entry import missing, run_module
from ..module_utils.options import KUBE_OPTIONS, PROGRESS_OPTIONS, REGISTRY_OPTIONS, SECONDS, check_ranges
from ..module_utils.progress import progress_to
from ..module_utils.services import argo as service
from ..module_utils.services.apply import Outcome
from ..module_utils.services.argo import YAML_TRACEBACK, Rendered
from ..module_utils.times import Clock, SystemClock

ARGUMENT_SPEC: dict[str, Any] = {
    **KUBE_OPTIONS,
    **REGISTRY_OPTIONS,
    **PROGRESS_OPTIONS,
    "component": {"type": "str", "choices": [service.ARGOCD, service.ROLLOUTS], "required": True},
    "state": {"type": "str", "choices": ["present", "absent", "rendered", "released"], "default": "present"},
    "manifests": {"type": "list", "elements": "path", "default": []},
    "content": {"type": "list", "elements": "str", "default": [], "no_log": True},
    "objects": {"type": "list", "elements": "dict", "default": []},
    "namespace": {"type": "str"},
    "images": {"type": "dict", "default": {}},
    "pin": {"type": "bool", "default": True},
    "dest": {"type": "path"},
    "purge_definitions": {"type": "bool", "default": False},
    "replaces": {"type": "str"},
    "timeout": {"type": "float", "default": 180.0},
}
RANGES = {"timeout": SECONDS}


def argo(params: dict[str, Any], clock: Clock, dry_run: bool) -> dict[str, Any]:
    """What the module does, with its validated parameters."""
    state, component, progress = params["state"], params["component"], progress_to(params["progress_path"])
    namespace = params["namespace"] or service.NAMESPACES[component]
    items = service.placed(service.read(params["manifests"], params["content"]), params["objects"], namespace)
    rendered = Rendered(items, [])
    if state != "absent":
        registry = Registry.connect(params["registry"])
        rendered = service.render(items, params["images"], registry, params["pin"])
    if state == "rendered":
        return _written(_result(Outcome(), rendered), rendered, params["dest"], dry_run)
    session = Session.connect(params["kubeconfig"], params["context"])
    if state == "released":
        result = _result(service.release(session, items, dry_run, progress), rendered)
        return _written(result, rendered, params["dest"], dry_run)
    if state == "absent":
        purge = params["purge_definitions"]
        outcome = service.uninstall(session, component, items, purge, dry_run, params["replaces"])
        return _result(outcome, rendered)
    outcome, taken_over = service.install(
        session, component, namespace, rendered, clock, params["timeout"], dry_run, progress, params["replaces"]
    )
    return _result(outcome, rendered, taken_over)


def _written(result: dict[str, Any], rendered: Rendered, dest: str | None, dry_run: bool) -> dict[str, Any]:
    """The result with the finished manifests: in a file, or as text."""
    text = service.as_text(rendered.objects)
    if not dest:
        return {**result, "content": text}
    changed, diff = service.write(text, dest, dry_run)
    return {**result, "changed": result["changed"] or changed, "diff": result["diff"] + diff}


def _result(outcome: Outcome, rendered: Rendered, taken_over: bool = False) -> dict[str, Any]:
    return {
        "changed": outcome.changed,
        "objects": outcome.as_list(),
        "images": [image._asdict() for image in rendered.images],
        "taken_over": taken_over,
        "diff": outcome.diff,
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    missing(module, "requests", REQUESTS_TRACEBACK)
    missing(module, "PyYAML", YAML_TRACEBACK)

    def call() -> dict[str, Any]:
        check_ranges(module.params, RANGES)
        result = argo(module.params, SystemClock(), module.check_mode)
        if not module._diff:
            del result["diff"]  # of definitions it is megabytes
        return result

    run_module(module, call)


if __name__ == "__main__":
    main()
