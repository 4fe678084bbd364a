# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A set of policies: what is applied, what is refused before the first write, and what is looked up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import NAMESPACE, NETWORK_POLICY
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Conflict, Forbidden
from ansible_collections.lumen.airgap.plugins.module_utils.engines.netpol.flows import Surroundings
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.network_policies import (
    Applied,
    PolicySet,
    ensure,
    read_manifests,
)
from ansible_collections.lumen.airgap.tests.unit.fakes.kube import FakeSession

DNS = {"name": "dns", "from": {"namespace": "lumen"}, "to": "dns"}
SCRAPE = {
    "name": "scrape",
    "from": {"namespace": "monitoring"},
    "to": {"namespace": "lumen", "pods": {"matchLabels": {"app": "api"}}},
    "ports": [8080],
}


def namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def pod(name: str, app: str, space: str, address: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": space, "labels": {"app": app}},
        "spec": {"containers": [{"name": app, "ports": [{"containerPort": 8080}]}]},
        "status": {"podIP": address, "phase": "Running"},
    }


def manifest(name: str = "19-allow", space: str = "lumen", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": space},
        "spec": spec or {"podSelector": {}, "ingress": [{}]},
    }


def wanted(*flows: dict[str, Any], **others: Any) -> PolicySet:
    return PolicySet.of("site", flows or (DNS, SCRAPE), **{"namespaces": ["lumen"], **others})


@pytest.fixture
def session() -> FakeSession:
    return FakeSession(
        namespace("lumen"),
        namespace("monitoring"),
        pod("api-1", "api", "lumen", "10.42.0.2"),
        pod("prometheus-1", "prometheus", "monitoring", "10.42.0.3"),
    )


def run(session: FakeSession, wanted: PolicySet, **options: Any) -> Applied:
    return ensure(session, wanted, **options)  # type: ignore[arg-type]


def names(session: FakeSession) -> list[str]:
    return [policy["metadata"]["name"] for policy in session.list(NETWORK_POLICY).items]


def writes(session: FakeSession) -> list[str]:
    return [method for method, *_rest in session.calls if method in ("apply", "create", "delete", "patch", "replace")]


def test_a_set_is_applied_once_and_pruned(session: FakeSession) -> None:
    predicted = run(session, wanted(), dry_run=True)
    assert names(session) == []
    first = run(session, wanted())
    assert first.outcome.changes == predicted.outcome.changes
    assert names(session) == ["site-default-deny", "site-dns-egress", "site-scrape-ingress"]
    assert (first.policies, first.unused, first.lost) == (3, [], [])
    assert first.reachability == [
        {"to": "lumen/api", "port": 8080, "protocol": "TCP", "from": ["monitoring/prometheus"], "some": []}
    ]
    session.calls.clear()
    assert not run(session, wanted()).outcome.changed
    assert writes(session) == []
    session.put(manifest("others"))
    second = run(session, wanted(DNS))
    assert [(change.name, change.action) for change in second.outcome.changes if change.action != "unchanged"] == [
        ("site-scrape-ingress", "deleted")
    ]
    assert names(session) == ["others", "site-default-deny", "site-dns-egress"]


def test_what_denies_comes_last(session: FakeSession) -> None:
    run(session, wanted())
    applied = [name for method, _kind, _space, name in session.calls if method == "apply"]
    assert applied[-1] == "site-default-deny"


def test_the_set_goes_away_and_namespaces_stay(session: FakeSession) -> None:
    run(session, wanted())
    session.put(manifest("others"))
    assert run(session, wanted(), present=False, dry_run=True).outcome.changed
    assert len(names(session)) == 4
    gone = run(session, wanted(), present=False)
    assert {change.action for change in gone.outcome.changes} == {"deleted"}
    assert names(session) == ["others"]
    assert not run(session, wanted(), present=False).outcome.changed
    assert session.find(NAMESPACE, "lumen") is not None


def test_another_set_is_left_alone(session: FakeSession) -> None:
    run(session, wanted())
    run(session, PolicySet.of("more", [], manifests=[manifest("web")]))
    assert "site-dns-egress" in names(session)
    assert run(session, PolicySet.of("more"), present=False).outcome.changed
    assert names(session) == ["site-default-deny", "site-dns-egress", "site-scrape-ingress"]


def test_manifests_become_a_part_of_the_set(session: FakeSession) -> None:
    run(session, wanted(DNS, manifests=[manifest()]))
    labels = session.get(NETWORK_POLICY, "19-allow", "lumen")["metadata"]["labels"]
    assert labels == {"app.kubernetes.io/managed-by": "lumen.airgap", "lumen.airgap/policies": "site"}
    run(session, wanted(DNS))
    assert "19-allow" not in names(session)


def refused(session: FakeSession, wanted: PolicySet, **options: Any) -> AirgapError:
    before = names(session)
    session.calls.clear()
    with pytest.raises(AirgapError) as caught:
        run(session, wanted, **options)
    assert writes(session) == []
    assert names(session) == before
    return caught.value


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_required_flow_that_would_be_cut(session: FakeSession, dry_run: bool) -> None:
    error = refused(session, wanted(DNS, required=[SCRAPE]), dry_run=dry_run)
    assert error.message == (
        "Nothing was applied. required flow scrape would be cut: monitoring/prometheus-1 → lumen/api-1:8080/TCP, "
        "ingress denied by lumen/site-default-deny"
    )
    (violation,) = error.details["violations"]
    assert (violation["direction"], violation["policies"]) == ("ingress", ("lumen/site-default-deny",))


def test_policies_of_others_count(session: FakeSession) -> None:
    session.put(manifest("theirs", "monitoring", podSelector={}, policyTypes=["Egress"]))
    error = refused(session, wanted(required=[SCRAPE]))
    assert "egress denied by monitoring/theirs" in error.message


def test_a_forbidden_flow_that_would_be_open(session: FakeSession) -> None:
    error = refused(session, wanted(forbidden=[SCRAPE]))
    assert "forbidden flow scrape would be open" in error.message
    assert "allowed by lumen/site-scrape-ingress (ingress)" in error.message
    run(session, wanted(DNS, forbidden=[SCRAPE]))
    error = refused(session, wanted(DNS, forbidden=[SCRAPE]), present=False)
    assert "no policy denies it" in error.message


def test_many_violations_are_counted_in_the_message(session: FakeSession) -> None:
    for number in range(9):
        session.put(pod(f"more-{number}", "api", "lumen", f"10.42.1.{number}"))
    error = refused(session, wanted(DNS, required=[SCRAPE]))
    assert error.message.endswith("; and 5 more")
    assert len(error.details["violations"]) == 10


def test_pods_that_would_lose_their_dns(session: FakeSession) -> None:
    error = refused(session, wanted(SCRAPE))
    assert "DNS would be cut: lumen/api-1 → kube-system/(k8s-app=kube-dns):53/UDP, egress denied by" in error.message
    assert error.message.endswith("Add a flow to dns, or set allow_dns_cut=true")
    done = run(session, wanted(SCRAPE, allow_dns_cut=True))
    assert [violation.source for violation in done.lost] == ["lumen/api-1"]


def test_a_policy_of_somebody_else_stops_the_set_before_the_first_write(session: FakeSession) -> None:
    """Half a set would cut off what the other half allows."""
    run(session, wanted(DNS))
    changed = {"spec": {"egress": [{}]}}
    session.owns("kubectl-edit", NETWORK_POLICY, "site-dns-egress", "lumen", changed)
    session.calls.clear()
    with pytest.raises(Conflict, match=r"\(kubectl-edit\)"):
        run(session, wanted(DNS, SCRAPE))
    assert "site-scrape-ingress" not in names(session)
    run(session, wanted(DNS, SCRAPE, force=True))
    assert "site-scrape-ingress" in names(session)
    assert not run(session, wanted(DNS, SCRAPE)).outcome.changed


def test_a_namespace_that_is_missing(session: FakeSession) -> None:
    session.namespaces = {"monitoring"}
    session.remove(NAMESPACE, "lumen", None)
    error = refused(session, wanted())
    assert "There is no namespace lumen" in error.message
    predicted = run(session, wanted(), dry_run=True)
    assert {(change.action, change.verified) for change in predicted.outcome.changes} == {("created", False)}
    session.namespaces = None
    created = run(session, wanted(create_namespaces=True))
    assert created.outcome.changes[0][:4] == ("Namespace", None, "lumen", "created")
    assert not run(session, wanted(create_namespaces=True)).outcome.changed


def test_addresses_are_looked_up(session: FakeSession) -> None:
    flows = [
        {"name": "api", "from": {"namespace": "lumen"}, "to": "apiserver"},
        {"name": "node", "from": "nodes", "to": {"namespace": "lumen"}},
        DNS,
    ]
    session.put(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": "kubernetes"},
            },
            "endpoints": [{"addresses": ["192.168.2.2"]}],
            "ports": [{"name": "https", "port": 7443}],
        }
    )
    addresses = [{"type": "Hostname", "address": "node-1"}, {"type": "InternalIP", "address": "192.168.2.2"}]
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}, "status": {"addresses": addresses}}
    session.put(node)
    run(session, wanted(*flows))
    egress = session.get(NETWORK_POLICY, "site-api-egress", "lumen")["spec"]["egress"]
    assert egress == [{"to": [{"ipBlock": {"cidr": "192.168.2.2/32"}}], "ports": [{"protocol": "TCP", "port": 7443}]}]
    ingress = session.get(NETWORK_POLICY, "site-node-ingress", "lumen")["spec"]["ingress"]
    assert ingress == [{"from": [{"ipBlock": {"cidr": "192.168.2.2/32"}}]}]
    given = Surroundings(api_server=["10.0.0.1"], nodes=["10.0.0.2"])
    run(session, wanted(*flows, surroundings=given))
    egress = session.get(NETWORK_POLICY, "site-api-egress", "lumen")["spec"]["egress"]
    assert egress == [{"to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}], "ports": [{"protocol": "TCP", "port": 6443}]}]


@pytest.mark.parametrize(("word", "message"), [("apiserver", "give apiserver_addresses"), ("nodes", "node_addresses")])
def test_addresses_that_nobody_knows(session: FakeSession, word: str, message: str) -> None:
    error = refused(session, wanted(DNS, {"name": "x", "from": {"namespace": "lumen"}, "to": word}))
    assert message in error.message
    flows = (DNS, {"name": "x", "from": {"namespace": "lumen"}, "to": word})
    assert not run(session, wanted(*flows), present=False).outcome.changed, "what goes away needs no addresses"


def test_an_invalid_manifest_is_named(session: FakeSession) -> None:
    error = refused(session, wanted(DNS, manifests=[manifest(podSelector={}, ingress=[{"form": []}])]))
    assert "NetworkPolicy lumen/19-allow" in error.message


def test_the_same_policy_twice(session: FakeSession) -> None:
    error = refused(session, wanted(DNS, manifests=[manifest(), manifest()]))
    assert "lumen/19-allow" in error.message


def test_who_may_not_read_is_told_so(session: FakeSession) -> None:
    session.fail_next("list", Forbidden("list Pod: forbidden", status=403))
    with pytest.raises(Forbidden, match="list Pod: forbidden"):
        run(session, wanted())
    assert writes(session) == []


def test_flows_that_make_no_sense(session: FakeSession) -> None:
    with pytest.raises(AirgapError, match="flow 1: its name"):
        PolicySet.of("site", [{**DNS, "name": "A B"}])
    assert "a set of policies is named by" in refused(session, PolicySet.of("A B")).message


def test_manifests_are_read_from_files_and_directories(tmp_path: Path) -> None:
    text = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: %s, namespace: lumen}
spec: {podSelector: {}}
"""
    (tmp_path / "b.yml").write_text(text % "two" + "---" + text % "three" + "---\n")
    (tmp_path / "a.yaml").write_text(text % "one")
    (tmp_path / "README.md").write_text("no manifest")
    listed = {"apiVersion": "v1", "kind": "List", "items": [manifest("zero")]}
    found = read_manifests([listed], [str(tmp_path), str(tmp_path / "a.yaml")])
    assert [policy["metadata"]["name"] for policy in found] == ["zero", "one", "two", "three", "one"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not YAML"),
        ("just text", "is not an object of Kubernetes, but 'just text'"),
        ("kind: NetworkPolicy", "without apiVersion, kind or metadata.name"),
        ("{apiVersion: v1, kind: Pod, metadata: {name: x, namespace: y}}", "Pod x of v1 is no NetworkPolicy"),
        (
            "{apiVersion: crd.projectcalico.org/v1, kind: NetworkPolicy, metadata: {name: x, namespace: y}}",
            "of crd.projectcalico.org/v1 is no NetworkPolicy",
        ),
        (
            "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: x}}",
            "NetworkPolicy x has no namespace",
        ),
        ("!!python/object/apply:os.getcwd []", "is not YAML"),
        ("\ud800", "Could not read"),
    ],
)
def test_files_that_are_no_manifests(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(AirgapError) as caught:
        read_manifests([], [str(path)])
    assert message in caught.value.message
    assert str(path) in caught.value.message


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(AirgapError, match="Could not read"):
        read_manifests([], [str(tmp_path / "none.yaml")])
    with pytest.raises(AirgapError, match=r"There is no \*\.yaml or \*\.yml in"):
        read_manifests([], [str(tmp_path)])


def test_a_policy_that_somebody_has_opened_is_seen_named_and_closed(session: FakeSession) -> None:
    """An apply leaves what it does not name: the default-deny has no rules, and this one would stay beside it."""
    run(session, wanted())
    session.owns("kubectl-edit", NETWORK_POLICY, "site-default-deny", "lumen", {"spec": {"ingress": [{}]}})
    before = len(writes(session))
    with pytest.raises(Conflict, match=r"others have added \.spec\.ingress \(kubectl-edit\)"):
        run(session, wanted())
    assert len(writes(session)) == before
    predicted = run(session, wanted(force=True), dry_run=True)
    assert session.get(NETWORK_POLICY, "site-default-deny", "lumen")["spec"]["ingress"] == [{}]
    done = run(session, wanted(force=True))
    for applied in (predicted, done):
        changed = [change for change in applied.outcome.changes if change.action != "unchanged"]
        assert [(change.name, change.action) for change in changed] == [("site-default-deny", "updated")]
        assert '"ingress"' in applied.outcome.diff[0]["before"]
        assert '"ingress"' not in applied.outcome.diff[0]["after"]
    assert "ingress" not in session.get(NETWORK_POLICY, "site-default-deny", "lumen")["spec"]
    assert not run(session, wanted()).outcome.changed


def test_what_the_api_server_fills_in_is_no_addition_of_somebody(session: FakeSession) -> None:
    """A manifest may leave out its policyTypes; the API server writes what that means."""
    plain = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "plain", "namespace": "lumen"},
        "spec": {"podSelector": {"matchLabels": {"app": "none"}}, "egress": [{"ports": [{"port": 9090}]}]},
    }
    run(session, wanted(manifests=[plain]))
    session.patch(NETWORK_POLICY, "plain", "lumen", {"spec": {"policyTypes": ["Ingress", "Egress"]}})
    assert not run(session, wanted(manifests=[plain])).outcome.changed
    session.patch(NETWORK_POLICY, "plain", "lumen", {"spec": {"policyTypes": ["Egress"]}})
    with pytest.raises(Conflict, match=r"others have added \.spec\.policyTypes"):
        run(session, wanted(manifests=[plain]))


def test_two_sets_cannot_have_the_same_policy(session: FakeSession) -> None:
    flow = {"name": "team-x", "from": {"namespace": "lumen"}, "to": {"cidr": "192.0.2.0/24"}, "ports": [443]}
    run(session, PolicySet.of("site", [DNS, flow], namespaces=["lumen"]))
    other = PolicySet.of("site-team", [{**flow, "name": "x"}], namespaces=["lumen"], allow_dns_cut=True)
    with pytest.raises(AirgapError, match="lumen/site-team-x-egress is of the set site"):
        run(session, other)
