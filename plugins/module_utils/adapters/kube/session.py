# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One conversation with one API server: plain dictionaries in and out, discovery once, errors that say where.

Every request has a timeout. Objects are dictionaries as the API server sends them; no generated models.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from .errors import BY_STATUS, Conflict, Forbidden, Gone, Invalid, KubeError, NotFound, Unreachable
from .kinds import SERVICE_ACCOUNT, Kind
from .patience import Patience
from .transport import LineStream, Response, Transport, TransportFailure, Trust

__all__ = [
    "Conflict",
    "Event",
    "Forbidden",
    "Gone",
    "Invalid",
    "KubeError",
    "Listing",
    "NotFound",
    "Session",
    "Unreachable",
    "Watch",
]

_PATCH_TYPES = {"merge": "application/merge-patch+json", "json": "application/json-patch+json"}
_PAGE = 500


class Listing(NamedTuple):
    """``resource_version`` is where a watch continues."""

    items: list[dict[str, Any]]
    resource_version: str


class Event(NamedTuple):
    """``type`` is ADDED, MODIFIED, DELETED or BOOKMARK."""

    type: str
    object: dict[str, Any]


class Watch:
    """The events of one watch request; ends when its time is over. ``close`` from another thread ends it at once.

    Raises ``Gone`` when the resource version is too old, and ``Unreachable`` when the connection breaks.
    """

    def __init__(self, lines: LineStream, subject: str, server: str) -> None:
        self._lines = lines
        self._subject = subject
        self._server = server

    def __iter__(self) -> Iterator[Event]:
        try:
            for line in self._lines:
                entry = json.loads(line)
                if entry["type"] == "ERROR":
                    raise _error("watch", self._subject, self._server, Response(entry["object"].get("code", 500), line))
                yield Event(entry["type"], entry["object"])
        except TransportFailure as failure:
            raise _unreachable("watch", self._subject, self._server, failure) from failure
        except ValueError as error:
            raise Unreachable(
                f"watch {self._subject}: {self._server} sent half a line before the connection broke: {error}",
                reason="Malformed",
            ) from error

    def close(self) -> None:
        """End the iteration, also while another thread waits in it."""
        self._lines.close()


class Session:
    """Requests to one API server. May be used from several threads."""

    def __init__(self, transport: Transport, timeout: float = 10.0, patience: Patience | None = None) -> None:
        self._transport = transport
        self._timeout = timeout
        self._patience = patience
        self._resources: dict[Kind, tuple[str, bool]] = {}

    @classmethod
    def connect(cls, kubeconfig: str | None = None, context: str | None = None, timeout: float = 10.0) -> Session:
        """A session of the kubeconfig's user. ``timeout`` in seconds for each request. Sends nothing yet.

        Raises ``KubeError`` when the kubeconfig cannot be used or the library ``kubernetes`` is missing.
        """
        return cls(Transport.connect(kubeconfig, context), timeout)

    def patient(self, patience: Patience) -> Session:
        """One that waits for an API server that does not answer; a watch does not, nor does ``service_proxy``."""
        session = Session(self._transport, self._timeout, patience)
        session._resources = self._resources  # what one has asked about kinds, the other need not ask again
        return session

    @property
    def server(self) -> str:
        """The API server's address."""
        return self._transport.server

    @property
    def trust(self) -> Trust:
        """How the API server proves that it is the right one."""
        return self._transport.trust

    def get(self, kind: Kind, name: str, namespace: str | None = None) -> dict[str, Any]:
        """One object. Raises ``NotFound``, also when the cluster does not know the kind."""
        return self._object("get", "GET", kind, name, namespace)

    def find(self, kind: Kind, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        """One object, or None when it does not exist. Raises ``NotFound`` when the cluster does not know the kind."""
        self._resource(kind)
        try:
            return self.get(kind, name, namespace)
        except NotFound:
            return None

    def list(
        self,
        kind: Kind,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> Listing:
        """All objects of a kind, in one namespace or in all, read in pages."""
        subject = _subject(kind, None, namespace)
        path = self._path(kind, None, namespace)
        query: dict[str, Any] = {"limit": _PAGE, **_selectors(label_selector, field_selector)}
        items: list[dict[str, Any]] = []
        while True:
            page = self._json("list", subject, "GET", path, query)
            items += page.get("items") or []
            query["continue"] = page["metadata"].get("continue")
            if not query["continue"]:
                break
        for item in items:  # lists of built-in kinds leave these out
            item.setdefault("apiVersion", kind.api_version)
            item.setdefault("kind", kind.kind)
        return Listing(items, page["metadata"].get("resourceVersion", ""))

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object. Raises ``Conflict`` (reason AlreadyExists) when it exists."""
        kind, name, namespace = _identity(body)
        path = self._path(kind, None, namespace)
        return self._json("create", _subject(kind, name, namespace), "POST", path, body=body)

    def replace(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an object. Raises ``Conflict`` when its resourceVersion is no longer the one in ``body``."""
        kind, name, namespace = _identity(body)
        return self._object("replace", "PUT", kind, name, namespace, body=body)

    def patch(
        self,
        kind: Kind,
        name: str,
        namespace: str | None,
        body: Mapping[str, Any] | Sequence[Any],
        patch_type: str = "merge",
        subresource: str | None = None,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Patch an object or its subresource. ``patch_type``: merge (RFC 7386) or json (RFC 6902)."""
        return self._object(
            "patch",
            "PATCH",
            kind,
            name,
            namespace,
            subresource=subresource,
            query={"dryRun": "All"} if dry_run else {},
            body=body,
            content_type=_PATCH_TYPES[patch_type],
        )

    def apply(
        self, body: Mapping[str, Any], manager: str, force: bool = False, dry_run: bool = False
    ) -> tuple[dict[str, Any], bool]:
        """Apply an object server-side as the field manager ``manager``; the result, and whether it was created.

        Raises ``Conflict`` when another manager owns a field that would change; its ``details`` then have ``conflicts``
        (list of {manager, field}). ``force`` takes those fields over.
        """
        kind, name, namespace = _identity(body)
        query = {"fieldManager": manager, "force": str(force).lower(), "fieldValidation": "Strict"}
        answer = self._answer(
            "apply",
            _subject(kind, name, namespace),
            "PATCH",
            self._path(kind, name, namespace),
            {**query, **({"dryRun": "All"} if dry_run else {})},
            body,
            "application/apply-patch+yaml",
        )
        return _parsed("apply", _subject(kind, name, namespace), self.server, answer), answer.status == 201

    def delete(
        self,
        kind: Kind,
        name: str,
        namespace: str | None = None,
        propagation: str = "Background",
        dry_run: bool = False,
        only: Mapping[str, Any] | None = None,
    ) -> None:
        """Delete an object; what belongs to it goes with it by ``propagation`` (Background, Foreground, Orphan).

        ``only``: the object as it was read; raises ``Conflict`` when it is not that one, or not as it was, any more.
        Returns when the API server has taken it, not when it is gone. Raises ``NotFound``.
        """
        options: dict[str, Any] = {"propagationPolicy": propagation, **({"dryRun": ["All"]} if dry_run else {})}
        if only is not None:
            options["preconditions"] = {key: only["metadata"][key] for key in ("uid", "resourceVersion")}
        self._object("delete", "DELETE", kind, name, namespace, body=options)

    def namespaced(self, kind: Kind) -> bool:
        """Whether objects of this kind are in namespaces. Raises ``NotFound`` when the cluster does not know it."""
        return self._resource(kind)[1]

    def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        resource_version: str = "",
        label_selector: str | None = None,
        field_selector: str | None = None,
        timeout: float = 60,
    ) -> Watch:
        """Events after ``resource_version``, bookmarks too, for ``timeout`` seconds. Returns once the watch is open."""
        subject = _subject(kind, None, namespace)
        path = self._path(kind, None, namespace)
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": max(1, int(timeout)),
            **({"resourceVersion": resource_version} if resource_version else {}),
            **_selectors(label_selector, field_selector),
        }
        try:
            answer = self._transport.stream(path, query, self._timeout, timeout + self._timeout)
        except TransportFailure as failure:
            raise _unreachable("watch", subject, self.server, failure) from failure
        if isinstance(answer, Response):
            raise _error("watch", subject, self.server, answer)
        return Watch(answer, subject, self.server)

    def pod_log(self, namespace: str, pod: str, container: str, lines: int, previous: bool = False) -> Sequence[str]:
        """The last lines that a container has written; ``previous``: the one before it was started again."""
        subject = f"log of pod {namespace}/{pod}, container {container}"
        path = f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod)}/log"
        query = {"container": container, "tailLines": lines, "previous": str(previous).lower()}
        answer = self._answer("read", subject, "GET", path, query, None, "application/json")
        return answer.body.decode("utf-8", "replace").splitlines()

    def service_proxy(
        self,
        namespace: str,
        service: str,
        port: int,
        path: str,
        query: Mapping[str, Any] | None = None,
        timeout: float = 10.0,
    ) -> bytes:
        """GET from a Service through the API server; returns the body of its answer.

        Raises ``NotFound`` when there is no such Service, ``Unreachable`` when the API server itself does not answer,
        and a plain ``KubeError`` with ``status`` and ``body`` for what the Service, or the proxy for it, answered: also
        for a redirect, which is not followed.
        """
        subject = f"Service {namespace}/{service}:{port} {path}"
        url = f"/api/v1/namespaces/{quote(namespace)}/services/{quote(service)}:{port}/proxy/{path.lstrip('/')}"
        try:
            answer = self._transport.request("GET", url, query=query, timeout=timeout)
        except TransportFailure as failure:
            raise _unreachable("proxy", subject, self.server, failure) from failure
        if answer.status >= 300:
            error = _error("proxy", subject, self.server, answer)
            if isinstance(error, (NotFound, Forbidden)) and not error.body:
                raise error
            raise KubeError(error.message, error.status, error.reason, error.body, **error.details)
        return answer.body

    def ask(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A question in the form of an object (a review), which is not kept. The object with its answer."""
        kind = Kind.of(body)
        return self._json("ask", kind.kind, "POST", self._path(kind, None, None), body=body)

    def request_token(self, account: str, namespace: str, seconds: float) -> str:
        """A new token of a ServiceAccount for about this long. The API server may make it shorter or longer."""
        subject = _subject(SERVICE_ACCOUNT, account, namespace)
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": int(seconds)},
        }
        path = self._path(SERVICE_ACCOUNT, account, namespace) + "/token"
        return str(self._json("request a token of", subject, "POST", path, body=body)["status"]["token"])

    def _object(
        self,
        verb: str,
        method: str,
        kind: Kind,
        name: str,
        namespace: str | None,
        subresource: str | None = None,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        path = self._path(kind, name, namespace) + (f"/{subresource}" if subresource else "")
        return self._json(verb, _subject(kind, name, namespace), method, path, query, body, content_type)

    def _json(
        self,
        verb: str,
        subject: str,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        return _parsed(verb, subject, self.server, self._answer(verb, subject, method, path, query, body, content_type))

    def _answer(
        self,
        verb: str,
        subject: str,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Any,
        content_type: str,
    ) -> Response:
        data = None if body is None else json.dumps(body).encode()

        def ask() -> Response:
            try:
                answer = self._transport.request(method, path, query, data, content_type, self._timeout)
            except TransportFailure as failure:
                raise _unreachable(verb, subject, self.server, failure) from failure
            if answer.status >= 400:
                raise _error(verb, subject, self.server, answer)
            return answer

        return self._patience.insist(ask) if self._patience else ask()

    def _path(self, kind: Kind, name: str | None, namespace: str | None) -> str:
        plural, namespaced = self._resource(kind)
        path = _group_path(kind.api_version)
        if namespaced and namespace:
            path += f"/namespaces/{quote(namespace)}"
        path += f"/{plural}"
        return f"{path}/{quote(name)}" if name else path

    def _resource(self, kind: Kind) -> tuple[str, bool]:
        """Plural and whether it has namespaces. Asked once per group and version, and again for a kind not seen yet."""
        if kind not in self._resources:
            self._discover(kind.api_version)
        try:
            return self._resources[kind]
        except KeyError:
            raise NotFound(
                f"{self.server} does not know the kind {kind.kind} of {kind.api_version}: "
                "is its CustomResourceDefinition installed?",
                status=404,
                reason="UnknownKind",
            ) from None

    def _discover(self, api_version: str) -> None:
        try:
            found = self._json("discover", api_version, "GET", _group_path(api_version))
        except NotFound:
            return
        for resource in found["resources"]:
            if "/" not in resource["name"]:
                self._resources[Kind(api_version, resource["kind"])] = (resource["name"], resource["namespaced"])


def _group_path(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _identity(body: Mapping[str, Any]) -> tuple[Kind, str, str | None]:
    metadata = body["metadata"]
    return Kind.of(body), metadata["name"], metadata.get("namespace")


def _selectors(label_selector: str | None, field_selector: str | None) -> dict[str, str]:
    selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {key: value for key, value in selectors.items() if value}


def _subject(kind: Kind, name: str | None, namespace: str | None) -> str:
    if name is None:
        return f"{kind.kind} in {'namespace ' + namespace if namespace else 'all namespaces'}"
    return f"{kind.kind} {namespace + '/' if namespace else ''}{name}"


def _unreachable(verb: str, subject: str, server: str, failure: TransportFailure) -> Unreachable:
    return Unreachable(f"{verb} {subject}: no answer from {server}: {failure}", reason="NoAnswer")


def _parsed(verb: str, subject: str, server: str, answer: Response) -> dict[str, Any]:
    try:
        parsed: dict[str, Any] = json.loads(answer.body)
    except ValueError as error:
        raise KubeError(
            f"{verb} {subject}: {server} did not answer with JSON; is it an API server? {error}",
            status=answer.status,
            body=_head(answer.body),
        ) from error
    return parsed


def _error(verb: str, subject: str, server: str, answer: Response) -> KubeError:
    """The exception for an answer that is not a success: a Status of the API server, or what a proxy passed on."""
    status = _status(answer.body)
    reason = status.get("reason") or ""
    text = status.get("message") or _head(answer.body) or "no message"
    shown = f"{answer.status} {reason}".strip()
    conflicts = _conflicts(status)
    # An apply with an unknown field is answered as if the API server itself had failed.
    malformed = answer.status == 500 and "failed to create typed patch object" in text
    return (Invalid if malformed else BY_STATUS.get(answer.status, KubeError))(
        f"{verb} {subject}: {server} answered {shown}: {text}",
        status=answer.status,
        reason=reason,
        body="" if status else _head(answer.body),
        **({"conflicts": conflicts} if conflicts else {}),
    )


def _conflicts(status: Mapping[str, Any]) -> list[dict[str, str]]:
    """Whose fields an apply would have changed: ``conflict with "kubectl" using apps/v1`` for each of them."""
    causes = (status.get("details") or {}).get("causes") or []
    return [
        {"manager": cause.get("message", "").partition('"')[2].partition('"')[0], "field": cause.get("field", "")}
        for cause in causes
        if cause.get("reason") == "FieldManagerConflict"
    ]


def _status(body: bytes) -> dict[str, Any]:
    """The Status object in an answer, also inside an ERROR event; empty when it is something else."""
    try:
        parsed = json.loads(body)
        parsed = parsed.get("object", parsed)
        return parsed if parsed.get("kind") == "Status" else {}
    except (ValueError, AttributeError):
        return {}


def _head(body: bytes) -> str:
    return body[:500].decode("utf-8", "replace").strip()
