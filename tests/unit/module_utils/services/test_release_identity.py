# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Objects, token and file of the identity, and what it is asked afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import (
    ADMISSION_POLICY,
    CLUSTER_ROLE,
    NAMESPACE,
    ROLE,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    Kind,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Forbidden
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.node import Node
from ansible_collections.lumen.airgap.plugins.module_utils.engines.identity import Wanted, claims, token_of
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.release_identity import Identities, granted
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import EPOCH, FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.kube import FakeSession
from ansible_collections.lumen.airgap.tests.unit.fakes.tokens import token

WANTED = Wanted(
    app="api",
    namespace="lumen",
    prometheus=("monitoring", "prom", 9090),
    argocd_namespace="argocd",
    applications=("lumen-app",),
    observed=("gitea",),
)
DAY = 86400.0
LASTS, RENEW = 90 * DAY, 30 * DAY


class Authorizer:
    """Answers access reviews by the Roles in a cluster, as RBAC does, and knows the tokens of its ServiceAccounts."""

    def __init__(self, session: FakeSession, path: Path) -> None:
        self.session = session
        self.path = path
        self.extra: list[dict[str, Any]] = []
        self.deaf = 0
        self.revoked = False

    def review(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if self.revoked:
            raise Forbidden("ask: answered 401 Unauthorized", status=401)
        if self.deaf:
            self.deaf -= 1
            return {**body, "status": {"allowed": False}}
        asked = body["spec"]["resourceAttributes"]
        rules = [*self.extra]
        if asked.get("namespace"):
            rules += [rule for role in self.session.list(ROLE, asked["namespace"]).items for rule in role["rules"]]
        rules += [rule for role in self.session.list(CLUSTER_ROLE).items for rule in role["rules"]]
        return {**body, "status": {"allowed": any(covers(rule, asked) for rule in rules)}}


def covers(rule: Mapping[str, Any], asked: Mapping[str, str]) -> bool:
    resource = "/".join(filter(None, [asked["resource"], asked.get("subresource")]))
    return (
        asked.get("group", "") in rule["apiGroups"]
        and resource in rule["resources"]
        and asked["verb"] in rule["verbs"]
        and (not rule.get("resourceNames") or asked.get("name") in rule["resourceNames"])
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kube" / "release"


@pytest.fixture
def authorizer(session: FakeSession, path: Path) -> Authorizer:
    return Authorizer(session, path)


@pytest.fixture
def identities(session: FakeSession, clock: FakeClock, authorizer: Authorizer) -> Identities:
    for name in ("lumen", "monitoring", "argocd", "gitea"):
        session.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    session.answer = authorizer.review
    session.issue = lambda user, uid, seconds: token(user, uid, clock.time() + seconds)
    return Identities(session, Node(), clock, connect=lambda path: session)  # type: ignore[arg-type,return-value]


def present(identities: Identities, path: Path, dry_run: bool = False) -> Any:
    return identities.present(WANTED, str(path), LASTS, RENEW, dry_run)


def requested(session: FakeSession) -> int:
    return sum(call[0] == "request_token" for call in session.calls)


def test_it_is_made_once(identities: Identities, session: FakeSession, path: Path) -> None:
    done = present(identities, path)
    assert done.changed
    assert done.verified
    assert done.expires == EPOCH + LASTS
    assert done.written == "there is none yet"
    assert path.stat().st_mode & 0o777 == 0o600
    again = present(identities, path)
    assert not again.changed
    assert again.verified
    assert again.expires_at == done.expires_at
    assert requested(session) == 1


def test_check_mode_predicts_and_touches_nothing(identities: Identities, session: FakeSession, path: Path) -> None:
    foreseen = present(identities, path, dry_run=True)
    assert (foreseen.changed, foreseen.verified, foreseen.expires_at) == (True, False, None)
    assert session.list(ROLE).items == []
    assert not path.parent.exists()
    assert requested(session) == 0
    done = present(identities, path)
    assert [change[:4] for change in foreseen.objects.changes] == [change[:4] for change in done.objects.changes]
    assert not present(identities, path, dry_run=True).changed


def test_it_is_renewed_before_its_end(
    identities: Identities, session: FakeSession, clock: FakeClock, path: Path
) -> None:
    present(identities, path)
    clock.sleep(LASTS - RENEW)
    assert not present(identities, path).changed
    clock.sleep(1)
    foreseen = present(identities, path, dry_run=True)
    assert (foreseen.written, foreseen.expires_at) == ("its token is near its end", None)
    assert present(identities, path).written == "its token is near its end"
    assert not present(identities, path).changed
    assert requested(session) == 2


def test_a_service_account_that_was_made_anew_gets_a_new_token(
    identities: Identities, session: FakeSession, path: Path
) -> None:
    present(identities, path)
    session.remove(SERVICE_ACCOUNT, "airgap-release", "lumen")
    assert present(identities, path).written == "its token is of another ServiceAccount"
    said = claims(token_of(path.read_text()))
    assert said is not None
    assert said.uid == session.get(SERVICE_ACCOUNT, "airgap-release", "lumen")["metadata"]["uid"]


def test_a_token_that_the_api_server_does_not_know_is_replaced(
    identities: Identities, session: FakeSession, authorizer: Authorizer, path: Path
) -> None:
    present(identities, path)
    authorizer.revoked = True
    issue = session.issue

    def mend(user: str, uid: str, seconds: float) -> str:
        authorizer.revoked = False
        return issue(user, uid, seconds)

    session.issue = mend
    assert present(identities, path).written == "the API server does not know its token any more"


def test_a_file_that_others_can_read_is_written_anew(identities: Identities, path: Path) -> None:
    present(identities, path)
    path.chmod(0o644)
    assert present(identities, path).written == "others could read it (mode 0644)"
    assert path.stat().st_mode & 0o777 == 0o600


def test_roles_that_are_not_wanted_any_more_go(identities: Identities, session: FakeSession, path: Path) -> None:
    present(identities, path)
    fewer = Wanted(app="api", namespace="lumen", prometheus=("monitoring", "prom", 9090))
    done = identities.present(fewer, str(path), LASTS, RENEW)
    assert done.objects.changed
    assert done.written == ""
    assert [role["metadata"]["namespace"] for role in session.list(ROLE).items] == ["lumen", "monitoring"]
    assert [each["metadata"]["namespace"] for each in session.list(ROLE_BINDING).items] == ["lumen", "monitoring"]


def test_the_guard_can_be_left_out_and_taken_away(identities: Identities, session: FakeSession, path: Path) -> None:
    present(identities, path)
    assert len(session.list(ADMISSION_POLICY).items) == 1
    done = identities.present(replace(WANTED, guard=False), str(path), LASTS, RENEW)
    assert [change.kind for change in done.objects.changes if change.action == "deleted"] == [
        "ValidatingAdmissionPolicyBinding",
        "ValidatingAdmissionPolicy",
    ]
    assert session.list(ADMISSION_POLICY).items == []


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_cluster_that_knows_no_such_policy(
    dry_run: bool, identities: Identities, session: FakeSession, path: Path
) -> None:
    session.unknown_kinds |= {ADMISSION_POLICY, Kind(ADMISSION_POLICY.api_version, "ValidatingAdmissionPolicyBinding")}
    with pytest.raises(AirgapError, match="Set guard to false"):
        present(identities, path, dry_run)
    assert session.list(ROLE).items == []
    assert identities.present(replace(WANTED, guard=False), str(path), LASTS, RENEW, dry_run).changed


def test_the_authorizer_may_need_a_moment(
    identities: Identities, authorizer: Authorizer, clock: FakeClock, path: Path
) -> None:
    authorizer.deaf = len(list(granted(WANTED))) + 3
    assert present(identities, path).verified
    assert clock.monotonic() == 1.0


def test_a_right_that_never_comes_is_named(
    identities: Identities, authorizer: Authorizer, clock: FakeClock, path: Path
) -> None:
    authorizer.deaf = 1_000_000
    with pytest.raises(AirgapError, match=r"may not .*patch rollouts/status api in lumen.*authorize by RBAC"):
        present(identities, path)
    assert clock.monotonic() == 10.0


def test_a_right_too_many_is_named(identities: Identities, authorizer: Authorizer, path: Path) -> None:
    authorizer.extra = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]
    with pytest.raises(AirgapError, match=r"may get secrets in lumen, .*system:authenticated"):
        present(identities, path)


def test_tokens_that_last_too_short_are_refused(identities: Identities, session: FakeSession, path: Path) -> None:
    issue = session.issue
    session.issue = lambda user, uid, seconds: issue(user, uid, 3600)
    with pytest.raises(AirgapError, match=r"a token of 3600 s.*service-account-max-token-expiration"):
        present(identities, path)
    assert not path.exists()


def test_namespaces_that_are_not_there(identities: Identities, session: FakeSession, path: Path) -> None:
    session.remove(NAMESPACE, "lumen", None)
    session.remove(NAMESPACE, "gitea", None)
    assert present(identities, path, dry_run=True).changed
    with pytest.raises(AirgapError, match="There is no namespace lumen, gitea"):
        present(identities, path)
    assert session.list(CLUSTER_ROLE).items == []
    assert not path.exists()


def test_an_administrator_who_may_not_grant(identities: Identities, session: FakeSession, path: Path) -> None:
    session.fail_next("apply", Forbidden("apply Role: is attempting to grant RBAC permissions", status=403))
    with pytest.raises(Forbidden, match="attempting to grant"):
        present(identities, path)


def test_absent_takes_all_of_it(identities: Identities, session: FakeSession, path: Path) -> None:
    present(identities, path)
    fewer = Wanted(app="api", namespace="lumen")
    foreseen = identities.absent(fewer, str(path), dry_run=True)
    assert foreseen.changed
    assert path.exists()
    done = identities.absent(fewer, str(path))
    assert sorted(map(str, foreseen.objects.changes)) == sorted(map(str, done.objects.changes))
    assert not path.exists()
    kinds = (SERVICE_ACCOUNT, ROLE, ROLE_BINDING, CLUSTER_ROLE, Kind(ROLE.api_version, "ClusterRoleBinding"))
    assert [session.list(kind).items for kind in kinds] == [[]] * 5
    assert not identities.absent(fewer, str(path)).changed
