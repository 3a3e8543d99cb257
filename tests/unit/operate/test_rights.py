"""What sudo allows, read from its listing; and the fragment that allows exactly what is needed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from llamatop.errors import NodeError, PlanFailed, UsageError
from llamatop.model.plan import Command
from llamatop.operate import permitted, sudoers
from llamatop.operate.privilege import Privileges
from llamatop.operate.rights import Rights
from llamatop.transport.base import Completed
from tests.unit.operate.fakes import FakeCluster, FakeFleet
from tests.unit.operate.test_reshape import Cards, CardsFleet

# As sudo 1.9.13 printed it, long lines broken at 80 columns.
LISTING = """\
Matching Defaults entries for ops on node1:
    env_reset, mail_badpass,
    secure_path=/usr/local/sbin\\:/usr/local/bin\\:/usr/sbin\\:/usr/bin\\:/sbin\\:/bin,
    use_pty

User ops may run the following commands on node1:

Sudoers entry:
    RunAsUsers: root
    Options: !authenticate
    Commands:
\t/usr/bin/cp -a -T -- /etc/nginx/conf.d/a.conf
        /etc/nginx/conf.d/.a.conf.llamatop-new
\t/usr/bin/dd of\\=/etc/nginx/conf.d/.a.conf.llamatop-new conv\\=fsync status\\=none

Sudoers entry:
    RunAsUsers: root
    Options: !authenticate
    Commands:
\t/usr/bin/systemctl --no-ask-password start -- llama\\\\x2dserver\\:\\*@a b.service

Sudoers entry:
    RunAsUsers: root
    Commands:
\t/usr/bin/id

Sudoers entry:
    RunAsUsers: root
    Options: !authenticate
    Commands:
\t/usr/sbin/nginx -t
\t!/usr/sbin/nginx -s stop
\t/usr/bin/ls ""

Sudoers entry:
    RunAsUsers: www-data
    Options: !authenticate
    Commands:
\t/usr/bin/whoami
"""
ALL = """\
User admin may run the following commands on node1:

Sudoers entry:
    RunAsUsers: ALL
    RunAsGroups: ALL
    Options: !authenticate
    Commands:
\tALL
"""


def command(text: str) -> Command:
    return Command(tuple(text.split(" ")))


@pytest.mark.parametrize(
    ("argv", "allowed"),
    [
        ("cp -a -T -- /etc/nginx/conf.d/a.conf /etc/nginx/conf.d/.a.conf.llamatop-new", True),
        ("cp -a -T -- /etc/nginx/conf.d/a.conf /etc/shadow", False),
        ("dd of=/etc/nginx/conf.d/.a.conf.llamatop-new conv=fsync status=none", True),
        ("dd of=/etc/nginx/conf.d/.a.conf.llamatop-new", False),
        ("systemctl --no-ask-password start -- llama\\x2dserver:*@a b.service", True),
        ("systemctl --no-ask-password start -- llama\\x2dserver:k@a b.service", False),
        ("nginx -t", True),
        ("nginx -s stop", False),
        ("nginx", False),
        ("ls", True),
        ("ls -l", False),
        ("id", False),
        ("whoami", False),
        ("/opt/sbin/nginx -t", False),
    ],
)
def test_a_listing_tells_what_runs_without_a_password(argv: str, allowed: bool) -> None:
    rights = Rights.parse(LISTING)
    assert rights is not None
    assert rights.allow(command(argv)) is allowed


def test_everything_and_what_comes_later_decides() -> None:
    rights = Rights.parse(ALL)
    assert rights is not None
    assert rights.allow(command("rm -rf /"))
    later = ALL + "\nSudoers entry:\n    RunAsUsers: root\n    Commands:\n\t/usr/bin/rm\n"
    rights = Rights.parse(later)
    assert rights is not None
    assert not rights.allow(command("rm -rf /"))
    assert rights.allow(command("cp a b"))
    open_to_all = "Matching Defaults entries for ops on node1:\n    !authenticate\n\n"
    rights = Rights.parse(open_to_all + later.replace("admin", "ops"))
    assert rights is not None
    assert rights.allow(command("rm -rf /"))


@pytest.mark.parametrize(
    ("pattern", "argv", "allowed"),
    [
        ("/usr/bin/systemctl * llama-*", "systemctl restart llama-server-gpu0.service", True),
        ("/usr/bin/systemctl * llama-*", "systemctl restart nginx", False),
        ("/usr/bin/", "systemctl restart nginx", True),
        ("/usr/sbin/*", "nginx -t", True),
        ("/usr/*/nginx", "nginx -t", True),
        ("/usr/*", "nginx -t", False),
        ("/usr/sbin/nginx -[tT]", "nginx -T", True),
        ("/usr/sbin/nginx ^-(t|T)$", "nginx -T", True),
        ("/usr/sbin/nginx ^-(t|T)$", "nginx -s", False),
        ("sha256:abc= /usr/sbin/nginx -t", "nginx -t", True),
        ("/usr/sbin/nginx ^(", "nginx -t", False),
    ],
)
def test_patterns_mean_what_sudo_means(pattern: str, argv: str, allowed: bool) -> None:
    rights = Rights.parse(ALL.replace("\tALL", f"\t{pattern}"))
    assert rights is not None
    assert rights.allow(command(argv)) is allowed


@pytest.mark.parametrize("text", ["", "nonsense\n", "User ops is not allowed to run sudo\n"])
def test_what_is_no_listing_is_none(text: str) -> None:
    assert Rights.parse(text) is None


class Answers:
    """A node on which a few commands answer."""

    name = "node1"

    def __init__(self, **answers: Completed) -> None:
        self.answers = answers
        self.ran: list[str] = []

    def machine(self, node_name: str) -> Answers:
        return self

    async def run(
        self, command: Command, stdin: bytes = b"", timeout_seconds: float = 30.0
    ) -> Completed:
        self.ran.append(str(command))
        if command.argv == ("id", "-u"):
            return Completed(0, b"1000\n", b"")
        if command.argv[-1] == "command -v sudo":
            return self.answers.get("sudo", Completed(0, b"/usr/bin/sudo\n", b""))
        if command.argv[-1] == "-ll":
            return self.answers["listing"]
        return self.answers["asked"]


NEEDED = [Command(("sudo", "-n", "nginx", "-t")), Command(("sudo", "-n", "id"))]


async def test_one_listing_serves_all_commands() -> None:
    node = Answers(listing=Completed(0, ALL.encode(), b""))
    privileges = Privileges(node)
    await privileges.prefix("node1")
    await privileges.check("node1", NEEDED)
    await privileges.check("node1", NEEDED)
    assert [line for line in node.ran if "-ll" in line] == ["env LC_ALL=C sudo -n -ll"]


async def test_the_missing_right_is_named_with_the_mend() -> None:
    node = Answers(listing=Completed(0, LISTING.encode(), b""))
    with pytest.raises(NodeError, match=r"does not let you run `id` without .*llamatop sudoers"):
        await Privileges(node).check("node1", NEEDED)
    refused = Completed(1, b"", b"sudo: a password is required\n")
    node = Answers(listing=refused)
    with pytest.raises(NodeError, match=r"`nginx -t` and 1 more .*a password is required"):
        await Privileges(node).check("node1", NEEDED)


async def test_a_listing_of_another_kind_is_asked_command_by_command() -> None:
    node = Answers(listing=Completed(0, b"", b""), asked=Completed(0, b"", b""))
    await Privileges(node).check("node1", NEEDED)
    assert "sudo -n -l nginx -t" in node.ran
    node.answers["asked"] = Completed(1, b"", b"")
    with pytest.raises(NodeError, match="nothing was begun"):
        await Privileges(node).check("node1", NEEDED)


async def test_without_sudo_polkit_is_left_to_systemctl_and_the_rest_is_said() -> None:
    privileges = Privileges(Answers(sudo=Completed(1, b"", b"")))
    assert await privileges.prefix("node1") == ()
    await privileges.check("node1", [command("systemctl --no-ask-password stop -- a.service")])
    with pytest.raises(NodeError, match=r"`nginx -t` needs root, and there is no sudo: polkit"):
        await privileges.check("node1", [command("nginx -t")])


async def test_polkit_decides_at_its_step_and_the_plan_says_so(tmp_path: Path) -> None:
    cluster = FakeCluster.two_by_two()
    cluster.root = cluster.sudo = False
    operator = cluster.operator(tmp_path / "audit.jsonl")
    plan = await operator.plan("restart", ["node1/gpu0"], now=True)
    assert plan.warnings[-1] == "node1 has no sudo: whether polkit allows it shows at its step"
    pid = cluster.workers["node1/gpu0"].pid
    assert [result async for result in operator.execute(plan)][-1].state == "done"
    assert cluster.workers["node1/gpu0"].pid != pid
    cluster.systemctl_refuses = "stop"
    plan = await operator.plan("stop", ["node1/gpu0"], now=True)
    with pytest.raises(PlanFailed, match=r"authentication required.*polkit rule for org\.freedesk"):
        assert [result async for result in operator.execute(plan)]
    with pytest.raises(NodeError, match="needs root, and there is no sudo"):
        await operator.plan("drain", ["node1/gpu0"])


async def test_a_look_tells_what_sudo_refuses_of_what_plans_need() -> None:
    cluster = FakeCluster.two_by_two()
    cluster.root = False
    seen = await permitted.look(cluster.snapshot(), FakeFleet(cluster))
    for node in seen.nodes:
        assert node.rights is not None
        assert node.rights.needed > 10
        assert node.rights.lacking == ()
    cluster.sudo_refuses = "restart"
    first = (await permitted.look(cluster.snapshot(), FakeFleet(cluster))).nodes[0].rights
    assert first is not None
    assert 0 < len(first.lacking) < first.needed
    assert all(" restart " in command for command in first.lacking)
    # Reading is no plan.
    assert not any("journalctl" in one or one == "nginx -T" for one in first.lacking)


async def test_a_look_as_root_and_where_there_is_no_sudo() -> None:
    cluster = FakeCluster.two_by_two()
    for node in (await permitted.look(cluster.snapshot(), FakeFleet(cluster))).nodes:
        assert node.rights is not None
        assert node.rights.lacking == ()
    cluster.root = cluster.sudo = False
    one, two = (await permitted.look(cluster.snapshot(), FakeFleet(cluster))).nodes
    assert one.rights is not None
    assert two.rights is not None
    assert "nginx -t" in one.rights.lacking
    assert not any(command.startswith("systemctl") for command in one.rights.lacking)
    assert one.rights.why == "there is no sudo"
    assert two.rights.lacking == ()


async def test_a_node_that_does_not_tell_leaves_it_unknown() -> None:
    cluster = FakeCluster.two_by_two()
    snapshot = cluster.snapshot()
    away = replace(snapshot.nodes[1], reachable=False)
    seen = await permitted.look(
        replace(snapshot, nodes=(snapshot.nodes[0], away)), FakeFleet(cluster)
    )
    assert seen.nodes[0].rights is not None
    assert seen.nodes[1].rights is None


class Places(FakeFleet):
    """The fake cluster's machines, which also say where commands lie."""

    def machine(self, node_name: str) -> object:  # type: ignore[override]
        fleet = CardsFleet if isinstance(self._cluster, Cards) else FakeFleet
        inner = fleet.machine(self, node_name)

        class Machine:
            name = node_name

            async def run(self, command: Command, **more: object) -> Completed:
                if command.argv[:2] == ("sh", "-c"):
                    found = (
                        "" if name == "absent" else f"/usr/bin/{name}" for name in command.argv[4:]
                    )
                    return Completed(0, "".join(f"{place}\n" for place in found).encode(), b"")
                return await inner.run(command)

            async def open(self, command: Command) -> object:
                return await inner.open(command)

        return Machine()


async def test_the_fragment_holds_each_command_of_the_plans_and_visudo_takes_it(
    tmp_path: Path,
) -> None:
    cluster = FakeCluster.two_by_two()
    cluster.root = False
    operator = cluster.operator(tmp_path / "audit.jsonl")
    texts = []
    for node in ("node1", "node2"):
        needed = await sudoers.needs(cluster.snapshot(), Places(cluster), node)
        texts.append(await sudoers.fragment(Places(cluster), needed, "ops"))
        for action in ("restart", "stop", "enable", "disable"):
            plan = await operator.plan(action, [f"{node}/gpu0"], force=True, now=False)
            for step in plan.steps:
                for one in step.commands:
                    if step.node == node:
                        assert Command(one.argv[2:]) in needed.commands
    assert "as good as root" in texts[0]
    assert "as good as root" not in texts[1]
    assert "nginx" not in texts[1]
    for line in "\n".join(texts).splitlines():
        assert not line or line.startswith(("#", "ops ALL = (root) NOPASSWD: /usr/bin/"))
        assert "/sh " not in line
        assert "tee" not in line
    _visudo(tmp_path, "\n".join(texts))


async def test_units_may_be_written_only_where_that_was_asked_for(tmp_path: Path) -> None:
    cluster = Cards.one()
    cluster.root = False
    plan = await cluster.operator(tmp_path / "audit.jsonl").plan("unsplit", ["node1/big"])
    machines = Places(cluster)
    without, asked = [
        await sudoers.needs(cluster.snapshot(), machines, "node1", write_units=write)
        for write in (False, True)
    ]
    commands = {
        Command(one.argv[2:])
        for step in plan.steps
        for part in (step, *step.back)
        for one in part.commands
    }
    assert commands <= set(asked.commands)
    assert [c.argv[0] for c in without.commands if "/etc/systemd" in str(c)] == []
    text = await sudoers.fragment(machines, asked, "ops")
    assert "IS ROOT ON THIS MACHINE" in text
    assert "IS ROOT" not in await sudoers.fragment(machines, without, "ops")
    assert "*" not in "".join(line for line in text.splitlines() if not line.startswith("#"))
    _visudo(tmp_path, text)


def _visudo(directory: Path, text: str) -> None:
    file = directory / "llamatop"
    file.write_text(text)
    try:
        done = subprocess.run(
            ["/usr/sbin/visudo", "-cf", str(file)], capture_output=True, text=True, timeout=30
        )
    except FileNotFoundError:
        pytest.skip("needs visudo: apt-get install sudo")
    assert done.returncode == 0, done.stdout + done.stderr


async def test_the_operators_own_commands_are_allowed_only_where_they_are_sudos(
    tmp_path: Path,
) -> None:
    cluster = FakeCluster.two_by_two()
    cluster.test = ("docker", "exec", "edge", "nginx", "-t")
    cluster.reload = ("sudo", "-n", "reload-edge", "now")
    needed = await sudoers.needs(cluster.snapshot(), Places(cluster), "node1")
    text = await sudoers.fragment(Places(cluster), needed, "ops")
    assert "docker" not in text
    assert "nginx -t" not in text
    assert "NOPASSWD: /usr/bin/reload-edge now\n" in text


STRANGE = "llama-server@a\\x2db:c,d=e #1*[x]?!^.service"


async def test_signs_that_sudoers_gives_a_meaning_lose_it(tmp_path: Path) -> None:
    needed = sudoers.Needs("node1", (("a unit", (Command(("systemctl", "stop", STRANGE)),)),))
    cluster = FakeCluster.two_by_two()
    text = await sudoers.fragment(Places(cluster), needed, "%gpu-ops")
    line = text.splitlines()[-1]
    assert line.endswith(r"stop llama-server@a\\\\x2db\:c\,d\=e\ \#1\*\[x\]\?\!\^.service")
    _visudo(tmp_path, text)


@pytest.mark.parametrize("user", ["", "a b", "ops ALL=(ALL) ALL\nx", "-u", "#0", "ops,root"])
async def test_what_is_no_user_is_refused(user: str) -> None:
    with pytest.raises(UsageError, match="no name of a user"):
        await sudoers.fragment(Places(FakeCluster.two_by_two()), sudoers.Needs("n", ()), user)


async def test_what_cannot_be_written_or_found_is_named() -> None:
    fleet = Places(FakeCluster.two_by_two())
    needed = sudoers.Needs("node1", (("", (Command(("cat", "a\nops ALL=ALL")),)),))
    with pytest.raises(NodeError, match="cannot stand in a sudoers file"):
        await sudoers.fragment(fleet, needed, "ops")
    needed = sudoers.Needs("node1", (("", (Command(("absent",)),)),))
    with pytest.raises(NodeError, match="absent is not on its path"):
        await sudoers.fragment(fleet, needed, "ops")
