"""Connecting as ssh itself would: configuration, hops, host keys; every failure is one sentence."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from llamatop.errors import HostKeyFault, NoAnswer, Unreachable
from llamatop.model.plan import Command
from llamatop.transport.ssh import SshMachine

from .conftest import World
from .sshd import keygen, silent_port
from .test_local import ended

pytestmark = pytest.mark.slow

ECHO = Command(("echo", "here"))


async def works(machine: SshMachine) -> bool:
    return (await machine.run(ECHO)).stdout == b"here\n"


async def fault(machine: SshMachine, kind: type[Unreachable] = Unreachable) -> str:
    """The sentence it fails with: one line, the node first."""
    with pytest.raises(Unreachable) as caught:
        await machine.run(ECHO)
    assert type(caught.value) is kind
    text = str(caught.value)
    assert text.startswith(f"{machine.name}: ")
    assert "\n" not in text
    return text


# -- configuration


async def test_include_and_match_are_honoured(world: World) -> None:
    server = world.server("node1")
    (world.root / "more").write_text(
        f'Match originalhost short exec "test -e {server.root}/config"\n'
        f"  HostName 127.0.0.1\n  Port {server.port}\n"
    )
    world.blocks = {"node1": ["HostName 127.0.0.1", "Port 1"]}
    world.host("node1", *world.blocks["node1"])
    config = world.config.read_text()
    world.config.write_text(f'Include "{world.root}/more"\n{config}')
    assert await works(world.machine("short"))


@pytest.mark.parametrize("form", ["{user}@127.0.0.1:{port}", "ssh://{user}@127.0.0.1:{port}"])
async def test_user_and_port_in_the_host(world: World, form: str) -> None:
    server = world.server("node1")
    host = form.format(user=getpass.getuser(), port=server.port)
    machine = SshMachine("n", host, ssh_config=world.config, known_hosts=world.known_hosts)
    world.machines.append(machine)
    assert await works(machine)


async def test_a_broken_configuration_is_said(world: World) -> None:
    world.config.write_text("Host x\n  NoSuchOption 1\n")
    text = await fault(world.machine("x"))
    assert "ssh config: line 2" in text
    assert "nosuchoption" in text.lower()
    world.config.unlink()
    assert "Can't open user config file" in await fault(world.machine("x"))


async def test_no_ssh_command_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(world.root))
    assert "apt-get install openssh-client" in await fault(world.machine("x"))


async def test_algorithms_that_cannot_be_met_are_said(world: World) -> None:
    world.server("node1", "Ciphers chacha20-poly1305@openssh.com")
    assert "only Ciphers that llamatop cannot do" in await fault(world.machine("node1"))
    world.server(
        "node2",
        "Ciphers aes256-ctr",
        "KexAlgorithms curve25519-sha256",
        extra="Ciphers aes256-ctr,aes128-ctr\nKexAlgorithms curve25519-sha256@libssh.org",
    )
    assert await works(world.machine("node2"))
    assert "aes256-ctr" in world.servers["node2"].log


# -- hops


async def test_jumps_through_several_hops(world: World) -> None:
    world.server("hop1")
    world.server("hop2", "ProxyJump hop1")
    world.server("node1", "ProxyJump hop1,hop2")
    world.host("nested", *world.blocks["node1"][:2], "ProxyJump hop2")
    assert await works(world.machine("node1"))
    assert await works(world.machine("nested"))
    for name in ("hop1", "hop2", "node1"):
        assert world.servers[name].log.count("Accepted publickey") == 2


async def test_a_circle_of_jumps_is_said(world: World) -> None:
    world.host("a", "ProxyJump b")
    world.host("b", "ProxyJump a")
    assert "jumps in a circle" in await fault(world.machine("a"))


async def test_what_a_jump_host_cannot_do_is_said(world: World) -> None:
    world.server("hop")
    world.server("closed", extra="AllowTcpForwarding no")
    world.host("down", "HostName 127.0.0.1", "Port 1", "ProxyJump hop")
    world.host("behind", "HostName 127.0.0.1", "Port 2", "ProxyJump closed")
    text = await fault(world.machine("down"), NoAnswer)
    assert "127.0.0.1:1 cannot be reached from jump host hop (Connection refused)" in text
    text = await fault(world.machine("behind"), Unreachable)
    assert "jump host closed" in text
    assert "forbids the way on to 127.0.0.1:2" in text
    world.host("node", "HostName 127.0.0.1", "Port 3", "ProxyJump gone")
    world.host("gone", "HostName 127.0.0.1", "Port 4")
    # what is behind may well live
    text = await fault(world.machine("node"), Unreachable)
    assert "jump host gone, 127.0.0.1:4 refuses the connection" in text


async def test_a_cut_at_the_jump_host_is_a_cut(world: World) -> None:
    hop = world.server("hop")
    world.server("node1", "ProxyJump hop")
    machine = world.machine("node1")
    channel = await machine.open(Command(("cat",)))
    hop.cut()
    with pytest.raises(NoAnswer, match="node1: the connection was cut"):
        await asyncio.wait_for(channel.readline(), 2)
    await channel.close()
    assert await works(machine)


async def test_proxy_command(world: World) -> None:
    world.server("hop")
    files = f"-F '{world.config}' -o UserKnownHostsFile='\"{world.known_hosts}\"'"
    pid = world.root / "pid"
    note = f"sh -c 'echo $$ >{pid}; exec \"$@\"' sh"
    world.server("node1", f"ProxyCommand {note} ssh {files} -W %h:%p hop | cat")
    machine = world.machine("node1")
    assert await works(machine)
    await machine.close()
    assert await ended(int(pid.read_text()))
    world.host("lost", "ProxyCommand echo no way to %h >&2; exit 1")
    assert "made no connection (no way to lost)" in await fault(world.machine("lost"))
    world.host("dead", "ProxyCommand no-such-proxy %h")
    assert "no-such-proxy" in await fault(world.machine("dead"))
    world.host("passed", "ProxyCommand nc -F %h %p", "ProxyUseFdpass yes")
    assert "ProxyUseFdpass" in await fault(world.machine("passed"))


# -- host keys


def accepted(world: World, name: str) -> int:
    return world.servers[name].log.count("Accepted publickey")


async def test_an_unknown_key_is_never_accepted(world: World) -> None:
    server = world.server("node1", "StrictHostKeyChecking no", known=False)
    text = await fault(world.machine("node1"), HostKeyFault)
    shown = subprocess.run(["ssh-keygen", "-lf", server.key()], capture_output=True, text=True)
    assert shown.stdout.split()[1] in text
    assert "is not known" in text
    assert accepted(world, "node1") == 0
    assert world.known_hosts.read_text() == ""
    await mends(world, text.split("accept it once: ")[1])


async def mends(world: World, command: str) -> None:
    """The command that the fault names, answered with yes, lets node1 be reached."""
    done = await asyncio.to_thread(
        subprocess.run,
        ["sh", "-c", command.replace("=ask", "=accept-new")],
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    assert await works(world.machine("node1"))


async def test_a_changed_key_is_refused_and_the_mend_mends(world: World) -> None:
    server = world.server("node1", known=False)
    other = keygen(world.root / "other").with_suffix(".pub").read_text()
    world.know("# a comment", f"[127.0.0.1]:{server.port} {other.strip()}")
    text = await fault(world.machine("node1"), HostKeyFault)
    assert "has changed" in text
    assert f"{world.known_hosts}:2 has ED25519 SHA256:" in text
    assert accepted(world, "node1") == 0
    await mends(world, text.split("accept the new one: ")[1])


async def test_keys_are_checked_at_every_hop(world: World) -> None:
    world.server("hop", known=False)
    node = world.server("node1", "ProxyJump hop", known=False)
    text = await fault(world.machine("node1"), HostKeyFault)
    assert f"jump host hop, 127.0.0.1:{world.servers['hop'].port}" in text
    world.know(world.servers["hop"].line())
    text = await fault(world.machine("node1"), HostKeyFault)
    assert f"the host key of 127.0.0.1:{node.port} is not known" in text
    assert accepted(world, "node1") == 0
    await mends(world, text.split("accept it once: ")[1])


async def test_known_hosts_mean_what_they_mean_to_ssh(world: World) -> None:
    """Every way to write a line, and ssh itself as the judge."""
    server = world.server("node1", known=False)
    key = server.line().partition(" ")[2]
    other = " ".join(keygen(world.root / "other").with_suffix(".pub").read_text().split()[:2])
    port = server.port
    verdicts = {
        f"*.example,[127.0.0.?]:{port} {key} comment": True,
        f"127.0.0.1 {key}": True,
        f"other,[127.0.0.1]:{port} {key}": True,
        f"* {key}": True,
        f"# [127.0.0.1]:{port} {key}": False,
        f"!127.0.0.1,![127.0.0.1]:{port},* {key}": False,
        f"[127.0.0.1]:{port + 1} {key}": False,
        f"[127.0.0.1]:{port} {other}\n127.0.0.1 {key}": False,
        f"[127.0.0.1]:{port} {other}\n[127.0.0.1]:{port} {key}": True,
        f"[127.0.0.1]:{port} rubbish\n\n[127.0.0.1]:{port} {key}": True,
        f"[127.0.0.1]:{port} {key.split()[0]} %%%": False,
    }

    async def judged(number: int, text: str, trusted: bool) -> None:
        file = world.root / f"known%{number}"
        file.write_text(f"{text}\n")
        machine = world.machine("node1", file)
        strict = ["-oStrictHostKeyChecking=yes", "-oBatchMode=yes"]
        argv = ["ssh", *strict, *machine.shell_argv()[1:], "true"]
        real = await asyncio.to_thread(subprocess.run, argv, capture_output=True)
        assert (real.returncode == 0) == trusted, text
        if trusted:
            assert await works(machine), text
        else:
            await fault(machine, HostKeyFault)

    await asyncio.gather(*(judged(n, *verdict) for n, verdict in enumerate(verdicts.items())))
    world.known_hosts.write_text(server.line() + "\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", world.known_hosts], capture_output=True)
    assert world.known_hosts.read_text().startswith("|1|")
    assert await works(world.machine("node1"))


async def test_revoked_and_certified_host_keys(world: World) -> None:
    server = world.server("node1")
    line = server.line()
    world.known_hosts.write_text(f"{line}\n@revoked {line}\n")
    assert "has revoked" in await fault(world.machine("node1"), HostKeyFault)
    authority = keygen(world.root / "authority").with_suffix(".pub").read_text()
    world.known_hosts.write_text(f"@cert-authority * {authority}")
    text = await fault(world.machine("node1"), HostKeyFault)
    assert "certificate authority" in text
    assert f"{world.known_hosts}:1" in text


async def test_alias_and_several_files(world: World) -> None:
    server = world.server("node1", known=False)
    first, second = world.root / "first", world.root / "second"
    first.write_text("")
    second.write_text(server.line("the-alias") + "\n")
    world.host(
        "node1",
        *world.blocks["node1"],
        "HostKeyAlias the-alias",
        f"UserKnownHostsFile {world.root}/missing {first} {second}",
    )
    assert await works(SshMachine("node1", "node1", ssh_config=world.config))


async def test_the_key_type_that_is_known_is_asked_for(world: World) -> None:
    server = world.server("node1", known=False, kinds=("ed25519", "rsa", "ecdsa"))
    for kind in ("rsa", "ecdsa"):
        world.known_hosts.write_text(server.line(kind=kind) + "\n")
        assert await works(world.machine("node1")), kind
    server.kinds = ("ed25519",)
    server.stop()
    server.start()
    assert "has changed" in await fault(world.machine("node1"), HostKeyFault)


async def test_an_unreadable_known_hosts_is_said(world: World) -> None:
    world.server("node1", known=False)
    world.known_hosts.unlink()
    assert "is not known" in await fault(world.machine("node1"), HostKeyFault)
    world.known_hosts.mkdir()
    assert "Is a directory" in await fault(world.machine("node1"), HostKeyFault)


# -- places that are no sshd


async def test_places_without_ssh(world: World) -> None:
    world.host("refused", "HostName 127.0.0.1", "Port 1")
    assert "127.0.0.1:1 refuses the connection" in await fault(world.machine("refused"), NoAnswer)
    world.host("nameless", "HostName no-such-host.invalid")
    text = await fault(world.machine("nameless"))
    assert "'no-such-host.invalid' does not resolve" in text
    assert "cluster file" not in text
    for answer, said in (
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak ssh (it says 'HTTP/1.1 400"),
        (b"\x1b[31m\x00\xff\n", "does not speak ssh (it says '·[31m·"),
        (b"SSH-1.5-old\r\n", "no way to talk in common"),
        (b"SSH-2.0-x\r\nrubbish that is no packet at all", "broke off the key exchange"),
    ):
        with silent_port(answer) as port:
            world.host("odd", "HostName 127.0.0.1", f"Port {port}")
            assert said in await fault(world.machine("odd"))


async def test_silence_is_bounded_by_connect_timeout(world: World) -> None:
    with silent_port() as port, socket.socket() as full, socket.socket() as filler:
        world.host("mute", "HostName 127.0.0.1", f"Port {port}", "ConnectTimeout 1")
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        filler.connect(full.getsockname())
        world.host(
            "lost", "HostName 127.0.0.1", f"Port {full.getsockname()[1]}", "ConnectTimeout 1"
        )
        started = time.monotonic()
        mute, lost = await asyncio.gather(
            fault(world.machine("mute"), NoAnswer), fault(world.machine("lost"), NoAnswer)
        )
        assert time.monotonic() - started < 9
    assert "accepts the connection but says nothing within 1 s" in mute
    assert "did not answer within 1 s" in lost


async def test_ten_waiters_share_one_attempt(world: World) -> None:
    server = world.server("node1", known=False)
    machine = world.machine("node1")
    faults = await asyncio.gather(*(fault(machine, HostKeyFault) for _ in range(10)))
    assert len(set(faults)) == 1
    assert server.log.count("Connection from") == 2, "the fixture's own and one attempt"


# -- logging in


async def test_keys_in_an_agent(world: World) -> None:
    server = world.server("node1")
    sock = world.root / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", sock], stdout=subprocess.DEVNULL)
    try:
        while not sock.exists():
            await asyncio.sleep(0.01)
        environ = {**os.environ, "SSH_AUTH_SOCK": str(sock)}
        others = [keygen(world.root / f"other{n}") for n in range(2)]
        held = keygen(world.root / "held", passphrase="secret")
        plain = world.root / "plain"
        plain.write_bytes(held.read_bytes())
        plain.chmod(0o600)
        change = ["ssh-keygen", "-q", "-p", "-P", "secret", "-N", "", "-f", plain]
        subprocess.run(change, check=True, stdout=subprocess.DEVNULL)
        for key in (*others, plain):
            subprocess.run(["ssh-add", "-q", key], env=environ, check=True)
        world.authorized.write_text(held.with_suffix(".pub").read_text())
        block = world.blocks["node1"][:2]
        world.host("node1", *block, f"IdentityAgent {sock}", "IdentityFile none")
        assert await works(world.machine("node1"))
        world.host(
            "node1",
            *block,
            f'IdentityAgent "{sock}"',
            f"IdentityFile {held}.pub",
            "IdentitiesOnly yes",
        )
        before = server.log.count("Failed publickey")
        assert await works(world.machine("node1"))
        assert server.log.count("Failed publickey") == before
        world.host("node1", *block, "IdentityAgent $LLAMATOP_AGENT", f"IdentityFile {held}")
        os.environ["LLAMATOP_AGENT"] = str(sock)
        assert await works(world.machine("node1"))
    finally:
        os.environ.pop("LLAMATOP_AGENT", None)
        agent.terminate()
        agent.wait()
    text = await fault(world.machine("node1"))
    assert f"{held} needs its passphrase, and no agent holds it" in text
    assert f"ssh-add {held}" in text


async def test_a_certificate_of_a_user(world: World) -> None:
    authority = keygen(world.root / "authority")
    world.server("node1", extra=f"TrustedUserCAKeys {authority}.pub")
    keys = [keygen(world.root / f"certified{n}") for n in range(2)]
    for key in keys:
        sign = ["ssh-keygen", "-q", "-s", authority, "-I", "me", "-n", getpass.getuser()]
        subprocess.run([*sign, f"{key}.pub"], check=True)
    world.authorized.write_text("")
    block = world.blocks["node1"]
    world.host("node1", *block, f"IdentityFile {keys[0]}", "IdentitiesOnly yes")
    assert await works(world.machine("node1"))
    named = [keys[n].with_name(f"named{n}.pub") for n in range(2)]
    for n in range(2):
        keys[n].with_name(f"certified{n}-cert.pub").rename(named[n])
    assert "refused every key" in await fault(world.machine("node1"))
    files = [f"CertificateFile {name}" for name in named]
    world.host("node1", *block, f"IdentityFile {keys[1]}", *files, "IdentitiesOnly yes")
    assert await works(world.machine("node1"))


@pytest.mark.parametrize("form", ["RFC4716", "PKCS8", "PEM"])
async def test_key_files_in_every_form(world: World, form: str) -> None:
    world.server("node1")
    key = keygen(world.root / "key", "ecdsa", form=form)
    world.authorized.write_text(key.with_suffix(".pub").read_text())
    block = world.blocks["node1"]
    world.host("node1", *block, f"IdentityFile {key}")
    assert await works(world.machine("node1"))
    locked = keygen(world.root / "locked", "ecdsa", "secret", form)
    world.host("node1", *block, f"IdentityFile {locked}")
    world.authorized.write_text("")
    assert f"{locked} needs its passphrase" in await fault(world.machine("node1"))


async def test_keys_that_are_refused_or_unusable_are_named(world: World) -> None:
    world.server("node1")
    world.authorized.write_text("")
    text = await fault(world.machine("node1"), Unreachable)
    assert f"refused every key ({world.identity})" in text
    assert "~/.ssh/authorized_keys" in text
    block = world.blocks["node1"][:2]
    open_to_all = keygen(world.root / "open")
    open_to_all.chmod(0o644)
    (world.root / "junk").write_text("no key\n")
    (world.root / "junk").chmod(0o600)
    world.host(
        "node1",
        *block,
        f"IdentityFile {open_to_all}",
        f"IdentityFile {world.root}/junk",
        f"IdentityFile {world.root}/missing",
    )
    text = await fault(world.machine("node1"))
    assert f"{open_to_all} can be read by others" in text
    assert f"{world.root}/junk holds no key" in text
    assert f"{world.root}/missing does not exist" in text
    world.host("node1", *block, "PubkeyAuthentication no")
    assert "forbids keys" in await fault(world.machine("node1"))


async def test_too_many_keys_and_no_keys_at_all(world: World) -> None:
    world.server("node1", extra="MaxAuthTries 2")
    world.authorized.write_text("")
    keys = [f"IdentityFile {keygen(world.root / f'key{n}')}" for n in range(4)]
    world.host("node1", *world.blocks["node1"][:2], *keys)
    assert "IdentitiesOnly yes for node1" in await fault(world.machine("node1"))
    world.server("node2", extra="PubkeyAuthentication no\nPasswordAuthentication yes")
    text = await fault(world.machine("node2"))
    assert "takes no keys (it asks for password)" in text


async def test_an_agent_that_does_not_answer_is_said(world: World) -> None:
    world.server("node1")
    world.authorized.write_text("")
    world.host("node1", *world.blocks["node1"][:2], f"IdentityAgent {world.root}/gone")
    assert f"the agent at {world.root}/gone does not answer" in await fault(world.machine("node1"))


async def test_secrets_stay_out_of_sentences(world: World, tmp_path: Path) -> None:
    world.server("node1")
    broken = tmp_path / "broken"
    broken.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n")
    broken.chmod(0o600)
    world.authorized.write_text("")
    world.host("node1", *world.blocks["node1"][:2], f"IdentityFile {broken}")
    text = await fault(world.machine("node1"))
    assert "c2VjcmV0" not in text
    assert f"{broken} holds no key" in text
