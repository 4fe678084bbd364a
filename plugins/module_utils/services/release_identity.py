# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The identity of releases in the cluster, and the kubeconfig that it is used by.

Its token comes from a TokenRequest: it ends by itself, it is kept nowhere but in the file, and it ends at once with the
ServiceAccount. A token in a Secret would last for ever, and be there for everybody who may read Secrets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

from ..adapters.kube.kinds import (
    ADMISSION_POLICY,
    ADMISSION_POLICY_BINDING,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    NAMESPACE,
    ROLE,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
)
from ..adapters.kube.session import Forbidden, NotFound, Session
from ..adapters.node import Node
from ..engines import identity
from ..engines.identity import Server, Wanted
from ..errors import AirgapError
from ..times import Clock, rfc3339
from .apply import Outcome, Prune, apply, remove

MODE = "0600"

# In the order in which they go when they are not wanted any more: rights before what limits them.
_KINDS = (ROLE_BINDING, ROLE, CLUSTER_ROLE_BINDING, CLUSTER_ROLE, ADMISSION_POLICY_BINDING, ADMISSION_POLICY)
_KNOWN_SECONDS, _AGAIN_SECONDS = 10.0, 0.5
"""How long a right that was just granted may take to be known to the API server's authorizer."""


@dataclass
class Identity:
    """What was done, or would be."""

    objects: Outcome = field(default_factory=Outcome)
    written: str = ""
    """Why the file was written (or removed); empty: it was not."""
    expires: float = 0.0
    verified: bool = False

    @property
    def changed(self) -> bool:
        """Whether anything is different from before."""
        return self.objects.changed or bool(self.written)

    @property
    def expires_at(self) -> str | None:
        """When the token ends. RFC 3339."""
        return rfc3339(self.expires) if self.expires else None


class Identities:
    """``session`` is an administrator's; ``connect`` opens one with a kubeconfig."""

    def __init__(
        self,
        session: Session,
        node: Node,
        clock: Clock,
        connect: Callable[[str], Session] = Session.connect,
    ) -> None:
        self._session = session
        self._node = node
        self._clock = clock
        self._connect = connect

    def present(
        self, wanted: Wanted, path: str, seconds: float, renew_seconds: float, dry_run: bool = False
    ) -> Identity:
        """Objects and file as they should be; then the identity itself is asked what it can do.

        The file is written anew when it would end within ``renew_seconds``. Raises AirgapError when the identity
        lacks a right, or has one that it must not have.
        """
        done = Identity(self._apply(wanted, dry_run))
        account = self._session.find(SERVICE_ACCOUNT, wanted.account, wanted.namespace)
        uid = account["metadata"]["uid"] if account else ""
        trust = self._session.trust
        server = Server(self._session.server, trust.ca, trust.verify, trust.server_name)
        text = self._node.read(path)
        done.written = identity.stale(text, wanted, server, uid, self._clock.time(), renew_seconds)
        if not done.written and self._node.mode(path) != MODE:
            done.written = f"others could read it (mode {self._node.mode(path)})"
        if not done.written and not self._accepted(wanted, path):
            done.written = "the API server does not know its token any more"
        if dry_run:
            done.expires = 0.0 if done.written else self._end(text)
            return done
        if done.written:
            text = identity.kubeconfig(wanted, server, self._token(wanted, seconds, renew_seconds))
            self._node.write(path, text, int(MODE, 8))
        done.expires = self._end(text)
        self._verify(wanted, path)
        done.verified = True
        return done

    def absent(self, wanted: Wanted, path: str, dry_run: bool = False) -> Identity:
        """Objects and file gone; the token ends with its ServiceAccount."""
        done = Identity(remove(self._session, identity.objects(wanted), dry_run=dry_run))
        # Roles in namespaces that are no longer asked for are found by their label.
        prune = Prune(_KINDS, f"{identity.OWNER_LABEL}={wanted.owner}")
        rest = apply(self._session, [], prune=prune, dry_run=dry_run)
        known = {change[:3] for change in done.objects.changes}
        for change, before, after in rest.pairs:
            if change[:3] not in known:
                done.objects.add(change, before, after)
        if self._node.exists(path):
            done.written = "it is not wanted any more"
            if not dry_run:
                self._node.remove(path)
        return done

    def _apply(self, wanted: Wanted, dry_run: bool) -> Outcome:
        prune = Prune(_KINDS, f"{identity.OWNER_LABEL}={wanted.owner}")
        try:
            if wanted.guard:
                self._session.namespaced(ADMISSION_POLICY)
        except NotFound as error:
            raise AirgapError(
                f"{self._session.server} knows no ValidatingAdmissionPolicy, which came with Kubernetes 1.30. Set "
                "guard to false: then nothing holds the identity to changing images."
            ) from error
        objects = identity.objects(wanted)
        if not dry_run:
            self._refuse_missing(objects)
        return apply(self._session, objects, prune=prune, dry_run=dry_run)

    def _refuse_missing(self, objects: Iterable[Mapping[str, Any]]) -> None:
        """Half an identity is of no use, and its rest would be left behind."""
        namespaces = dict.fromkeys(each["metadata"].get("namespace") for each in objects)
        missing = [name for name in namespaces if name and self._session.find(NAMESPACE, name) is None]
        if missing:
            raise AirgapError(
                f"There is no namespace {', '.join(missing)}. In site.yml, roles before this one make it; or leave it "
                "out of what the identity has to do with."
            )

    def _token(self, wanted: Wanted, seconds: float, renew_seconds: float) -> str:
        token = self._session.request_token(wanted.account, wanted.namespace, seconds)
        said = identity.claims(token)
        lasts = said.expires - self._clock.time() if said else 0.0
        if lasts <= renew_seconds:
            raise AirgapError(
                f"The API server gives {wanted.user} a token of {lasts:.0f} s, which would be renewed at every run, "
                f"since renew_seconds is {renew_seconds:g}. Its --service-account-max-token-expiration may be the "
                "reason: make renew_seconds smaller than that."
            )
        return token

    @staticmethod
    def _end(text: str | None) -> float:
        said = identity.claims(identity.token_of(text))
        return said.expires if said else 0.0

    def _accepted(self, wanted: Wanted, path: str) -> bool:
        """Whether the token is one for the API server; what it may do is another question."""
        try:
            _may(self._connect(path), {"verb": "get", "resource": "pods", "namespace": wanted.namespace})
        except Forbidden as error:
            return error.status != 401
        return True

    def _verify(self, wanted: Wanted, path: str) -> None:
        session = self._connect(path)
        end = self._clock.monotonic() + _KNOWN_SECONDS
        lacking = list(granted(wanted))
        while True:
            lacking = [each for each in lacking if not _may(session, each)]
            if not lacking or self._clock.monotonic() >= end:
                break
            self._clock.sleep(_AGAIN_SECONDS)
        if lacking:
            raise AirgapError(
                f"{wanted.user} may not {_said(lacking)}, {_KNOWN_SECONDS:g} s after its Roles were written. "
                "Does the API server authorize by RBAC?"
            )
        excess = [each for each in identity.forbidden(wanted) if _may(session, each)]
        if excess:
            raise AirgapError(
                f"{wanted.user} may {_said(excess)}, which releases must not be able to. Somebody granted it beside "
                "this role: look for bindings of this ServiceAccount, or of the groups system:serviceaccounts and "
                "system:authenticated."
            )


def granted(wanted: Wanted) -> Iterator[Mapping[str, str]]:
    """Every single thing that the identity can do, as the attributes of an access review."""
    for right in identity.rights(wanted):
        for resource in right.resources:
            for verb in right.verbs:
                for name in right.names or ("",):
                    attributes = {
                        "verb": verb,
                        "group": right.group,
                        "resource": resource,
                        "namespace": right.namespace,
                        "name": name,
                    }
                    yield {key: value for key, value in attributes.items() if value}


def _may(session: Session, attributes: Mapping[str, str]) -> bool:
    resource, _slash, subresource = attributes["resource"].partition("/")
    asked = {**attributes, "resource": resource, **({"subresource": subresource} if subresource else {})}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }
    return bool((session.ask(review).get("status") or {}).get("allowed"))


def _said(attributes: list[Mapping[str, str]]) -> str:
    """``get secrets in lumen, list namespaces``."""
    texts = []
    for each in attributes:
        where = f" in {each['namespace']}" if each.get("namespace") else ""
        texts.append(f"{each['verb']} {each['resource']}{' ' + each['name'] if each.get('name') else ''}{where}")
    return ", ".join(texts)
