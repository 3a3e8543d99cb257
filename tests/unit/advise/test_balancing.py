"""nginx's rules on whole configurations: each with one that fires and a near one that does not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from llamatop import nginx
from llamatop.advise import balancing, members
from llamatop.advise.finding import Finding
from llamatop.model.cluster import ClusterSnapshot, Membership, MemberView, WorkerView
from llamatop.model.declared import Balancer, Cluster, Node
from llamatop.model.observed import BalancerSample, Launch, UnitState, WorkerSample

FILE = "/etc/nginx/nginx.conf"
GOOD = """events {}
http {
    proxy_read_timeout 600s;
    upstream u {
        least_conn;
        server 127.0.0.1:37081;
        server 127.0.0.1:37082;
    }
    server {
        listen 127.0.0.1:8080;
        location / {
            proxy_pass http://u;
            proxy_buffering off;
            proxy_next_upstream off;
        }
    }
}
"""
LISTENING = ("0.0.0.0:22", "127.0.0.1:37081", "127.0.0.1:37082")


def worker(short: str, port: int, membership: Membership, **launch: object) -> WorkerView:
    unit = f"{short}.service"
    sample = WorkerSample(
        unit,
        engine="llama-server",
        url=f"http://127.0.0.1:{port}",
        health="ok",
        launch=Launch(api_key=False, **launch),  # type: ignore[arg-type]  # names come from tests
    )
    return WorkerView(f"n/{short}", "n", UnitState(unit), sample, membership=membership)


def snapshot(
    text: str = GOOD,
    *,
    version: str | None = "1.22.1",
    listening: tuple[str, ...] | None = LISTENING,
    workers: tuple[WorkerView, ...] = (worker("a", 37081, "in"), worker("b", 37082, "in")),
) -> ClusterSnapshot:
    files = {FILE: text.encode()}
    members = nginx.members(files, FILE)
    ports = {str(one.sample.url)[7:]: one.name for one in workers}
    return ClusterSnapshot(
        cluster=Cluster("c", (Node("n", ssh="n"),), Balancer("n", "u")),
        taken_at=datetime(2026, 11, 21, tzinfo=UTC),
        tick=1,
        workers=workers,
        balancer_node="n",
        balancer=BalancerSample(
            version=version,
            members=members,
            listening=listening,
            proxying=nginx.proxying(files, FILE),
        ),
        members=tuple(
            MemberView(
                one.upstream,
                one.address,
                "down" if one.down else "in",
                ports.get(one.address.replace("localhost", "127.0.0.1")),
            )
            for one in members
            if one.upstream == "u"
        ),
    )


def found(seen: ClusterSnapshot) -> list[Finding]:
    return [finding for rule in (*balancing.RULES, *members.RULES) for finding in rule(seen)]


def changed(*changes: tuple[str, str]) -> str:
    text = GOOD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


def test_a_good_configuration_gives_no_finding() -> None:
    assert found(snapshot()) == []


@pytest.mark.parametrize(
    ("rule", "line", "severity", "text"),
    [
        ("nginx-not-least-conn", 4, "warning", changed(("least_conn;", ""))),
        ("nginx-not-least-conn", 4, "warning", changed(("least_conn;", "random;"))),
        ("nginx-not-least-conn", 4, "info", changed(("least_conn;", "ip_hash;"))),
        ("nginx-buffering", 12, "warning", changed(("proxy_buffering off;", ""))),
        ("nginx-buffering", 13, "warning", changed(("buffering off", "buffering on"))),
        ("nginx-next-upstream", 12, "info", changed(("proxy_next_upstream off;", ""))),
        (
            "nginx-next-upstream",
            14,
            "warning",
            changed(("next_upstream off", "next_upstream error non_idempotent")),
        ),
        ("nginx-open", 10, "warning", changed(("127.0.0.1:8080", "8080"))),
        ("nginx-open", 9, "warning", changed(("listen 127.0.0.1:8080;", ""))),
        (
            "nginx-open",
            10,
            "warning",
            changed(("127.0.0.1:8080", "8080"), ("/ {", "/ { auth_basic off;")),
        ),
        (
            "nginx-keepalive-unused",
            12,
            "warning",
            changed(("least_conn;", "least_conn; keepalive 8;")),
        ),
        (
            "nginx-keepalive-unused",
            12,
            "warning",
            changed(
                ("least_conn;", "least_conn; keepalive 8;"), ("/ {", "/ { proxy_http_version 1.1;")
            ),
        ),
        ("nginx-member-silent", 7, "error", changed((":37082", ":37999"))),
        (
            "nginx-member-twice",
            7,
            "warning",
            changed(("37081;", "37081; server 127.0.0.1:37082;")),
        ),
        ("nginx-member-twice", 7, "warning", changed(("127.0.0.1:37082", "localhost:37081"))),
    ],
)
def test_each_rule_fires_at_its_line(rule: str, line: int, severity: str, text: str) -> None:
    findings = found(snapshot(text))
    assert [(one.id, one.place, one.severity) for one in findings] == [
        (rule, f"n:{FILE}:{line}", severity)
    ]


@pytest.mark.parametrize(
    "text",
    [
        changed(("least_conn;", "zone u 64k; least_conn;")),
        changed(("least_conn;", "random two least_conn;")),
        # nothing to choose from
        changed(("least_conn;", ""), ("server 127.0.0.1:37082;", "")),
        # said further out, or later than the proxy_pass
        changed(("proxy_buffering off;", ""), ("http {", "http { proxy_buffering off;")),
        changed(("timeout 600s", "timeout 60s"), ("/ {", "/ { proxy_read_timeout 5m;")),
        changed(("127.0.0.1:8080", "unix:/run/llama.sock")),
        changed(("127.0.0.1:8080", "[::1]:8080")),
        changed(("127.0.0.1:8080", "8443 ssl")),
        changed(("127.0.0.1:8080;", "8080; auth_basic llama; auth_basic_user_file x;")),
        changed(("127.0.0.1:8080;", "8080; allow 10.0.0.0/8; deny all;")),
        changed(("127.0.0.1:8080;", '8080; if ($http_x_key != "k") { return 401; }')),
        changed(("127.0.0.1:8080", "llama.internal:8080")),
        changed(
            ("least_conn;", "least_conn; keepalive 8;"),
            ("/ {", '/ { proxy_http_version 1.1; proxy_set_header Connection "";'),
        ),
        # a silent member that is out, one that another machine has, one of nobody's upstream
        changed((":37082", ":37999 down")),
        changed(("127.0.0.1:37082", "10.0.0.7:37999")),
        changed(("http {", "http { upstream other { server 127.0.0.1:9; }")),
        changed(("37081;", "37081; server 127.0.0.1:37082 down;")),
        # another upstream's location is not ours to judge
        changed(
            ("http {", "http { upstream web { server 127.0.0.1:9; server 127.0.0.1:10; }"),
            ("location / {", "location /x { proxy_pass http://web; } location / {"),
        ),
        changed(("location / {", "location /v { proxy_pass http://$name; } location / {")),
    ],
)
def test_what_is_near_does_not_fire(text: str) -> None:
    assert found(snapshot(text)) == []


def test_servers_that_forbid_buffering_leave_a_remark() -> None:
    def built(*builds: str | None) -> ClusterSnapshot:
        workers = tuple(
            replace(one, sample=replace(one.sample, build=build))
            for one, build in zip(
                (worker("a", 37081, "in"), worker("b", 37082, "in")), builds, strict=True
            )
        )
        return snapshot(changed(("proxy_buffering off;", "")), workers=workers)

    severities = {
        ("b10864-abc1234", "b10864-abc1234"): "info",
        ("b10864-abc1234", "b9125-dded58b45"): "warning",
        ("b10864-abc1234", None): "warning",
        ("b1-571d0d5", "b1-571d0d5"): "warning",
    }
    for builds, severity in severities.items():
        (finding,) = found(built(*builds))
        assert (finding.id, finding.severity) == ("nginx-buffering", severity)


def test_a_short_read_timeout_cuts_and_ejects() -> None:
    findings = found(snapshot(changed(("600s", "1m 30s"))))
    assert [(one.id, one.place) for one in findings] == [
        ("nginx-read-timeout", f"n:{FILE}:3"),
        ("nginx-max-fails", f"n:{FILE}:6"),
    ]
    assert "90 s" in findings[0].evidence


def test_answers_of_a_busy_worker_eject_it_unless_max_fails_is_0() -> None:
    codes = ("next_upstream off", "next_upstream error http_503 non_idempotent")
    ejected = [one for one in found(snapshot(changed(codes))) if one.id == "nginx-max-fails"]
    assert [one.place for one in ejected] == [f"n:{FILE}:6"]
    assert "max_fails 1 (nginx's default) on 2 of 2" in ejected[0].evidence
    kept = changed(codes, ("37081;", "37081 max_fails=0;"), ("37082;", "37082 max_fails=0;"))
    assert "nginx-max-fails" not in [one.id for one in found(snapshot(kept))]
    assert found(snapshot(changed(("37081;", "37081 max_fails=1 fail_timeout=30s;")))) == []


def test_a_post_that_is_not_sent_again_is_no_failure_of_the_worker() -> None:
    text = changed(("next_upstream off", "next_upstream error http_503"))
    (finding,) = found(snapshot(text))
    assert (finding.id, finding.severity) == ("nginx-next-upstream", "info")
    assert "a POST that was sent is not sent again, http_503 holds for GET" in finding.why
    assert "keep it where" in finding.mend


def test_a_post_is_sent_again_by_non_idempotent_or_an_old_nginx() -> None:
    text = changed(("next_upstream off", "next_upstream error timeout non_idempotent"))
    (asked,) = found(snapshot(text))
    assert asked.severity == "warning"
    assert asked.mend.endswith(", or without non_idempotent")
    plain = changed(("            proxy_next_upstream off;\n", ""))
    (old,) = found(snapshot(plain, version="1.9.12"))
    assert old.severity == "warning"
    assert "error timeout (nginx's default) in nginx 1.9.12" in old.evidence
    for version in ("1.9.13", None):
        (kept,) = found(snapshot(plain, version=version))
        assert kept.severity == "info"
    assert found(snapshot(version="1.9.12")) == []


def test_newer_nginx_keeps_connections_by_itself() -> None:
    text = changed(("least_conn;", "least_conn; keepalive 8;"))
    assert found(snapshot(text, version="1.29.7")) == []
    assert found(snapshot(text, version=None)) == []
    assert [one.id for one in found(snapshot(text, version="1.29.6"))] == ["nginx-keepalive-unused"]
    written = changed(
        ("least_conn;", "least_conn; keepalive 8;"),
        ("/ {", "/ { proxy_set_header Connection close;"),
    )
    assert [one.id for one in found(snapshot(written, version="1.30.0"))] == [
        "nginx-keepalive-unused"
    ]


def test_a_header_of_the_location_takes_the_place_of_all_of_the_servers() -> None:
    text = changed(
        ("least_conn;", "least_conn; keepalive 8;"),
        ("listen", 'proxy_http_version 1.1; proxy_set_header Connection ""; listen'),
    )
    assert found(snapshot(text)) == []
    shadowed = text.replace("/ {", "/ { proxy_set_header Host $host;")
    assert [one.id for one in found(snapshot(shadowed))] == ["nginx-keepalive-unused"]


def test_a_worker_that_serves_unknown_to_nginx() -> None:
    known = (worker("a", 37081, "in"), worker("b", 37082, "in"))
    (finding,) = found(snapshot(workers=(*known, worker("c", 37083, "absent"))))
    assert (finding.id, finding.place) == ("nginx-worker-unlisted", "n/c")
    out = worker("c", 37083, "down")
    stopped = worker("c", 37083, "absent")
    stopped = replace(stopped, sample=replace(stopped.sample, health="unreachable"))
    unsure = replace(worker("c", 37083, "absent"), membership=None)
    for near in (out, stopped, unsure):
        assert found(snapshot(workers=(*known, near))) == []


def test_a_worker_of_another_model_is_not_sent_into_the_upstream() -> None:
    def serving(model: str, short: str, port: int, membership: Membership) -> WorkerView:
        members = (("u", f"127.0.0.1:{port}"),) if membership == "in" else ()
        return replace(worker(short, port, membership, model=f"/srv/{model}.gguf"), members=members)

    known = (serving("8b", "a", 37081, "in"), serving("8b", "b", 37082, "in"))
    (same,) = found(snapshot(workers=(*known, serving("8b", "c", 37083, "absent"))))
    assert same.mend == "add its server line to upstream u"
    (other,) = found(snapshot(workers=(*known, serving("70b", "c", 37083, "absent"))))
    assert other.mend.startswith("an upstream of its own")


def test_nobody_is_missing_from_files_that_were_not_found() -> None:
    seen = snapshot(workers=(worker("a", 37081, "absent"), worker("b", 37082, "absent")))
    assert seen.balancer is not None
    assert len(found(seen)) == 2
    assert found(replace(seen, balancer=replace(seen.balancer, fault="no upstream 'u'"))) == []


def test_an_api_key_of_the_workers_is_a_guard_and_an_unknown_one_is_no_finding() -> None:
    text = changed(("127.0.0.1:8080", "8080"))
    for known in (True, None):
        workers = tuple(
            replace(one, sample=replace(one.sample, launch=Launch(api_key=known)))
            for one in (worker("a", 37081, "in"), worker("b", 37082, "in"))
        )
        assert found(snapshot(text, workers=workers)) == []


def test_what_is_not_known_is_no_finding() -> None:
    bad = changed(("least_conn;", ""), ("proxy_buffering off;", ""), (":37082", ":37999"))
    assert len(found(snapshot(bad))) == 3
    blind = snapshot(bad, listening=None)
    assert blind.balancer is not None
    assert found(replace(blind, balancer=replace(blind.balancer, proxying=None))) == []
    assert found(replace(blind, balancer=None)) == []


def test_the_fault_of_a_server_block_is_told_once_for_all_its_locations() -> None:
    text = changed(
        ("listen", "proxy_buffering on; listen"),
        ("            proxy_buffering off;\n", ""),
        (
            "location / {",
            "location /v1 { proxy_pass http://u; proxy_next_upstream off; } location / {",
        ),
    )
    places = [one.place for one in found(snapshot(text)) if one.id == "nginx-buffering"]
    assert places == [f"n:{FILE}:10"]


def test_the_example_of_the_readme_gives_no_finding() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    _, _, rest = readme.partition("```nginx\n")
    example, _, _ = rest.partition("```")
    text = "events {} http { " + example.replace("llama_cluster", "u") + "}"
    assert "upstream u {" in text
    assert found(snapshot(text)) == []
