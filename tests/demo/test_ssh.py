"""Its SSH server, with the real ssh client."""

from __future__ import annotations

import subprocess

from .conftest import Demo


def test_commands_run_for_real_in_the_node_s_environment(demo: Demo) -> None:
    done = demo.ssh("node1", "read line; echo $line; echo bad >&2; exit 7", stdin="hello\n")
    assert (done.stdout, done.stderr, done.returncode) == ("hello\n", "bad\n", 7)
    assert demo.out("node2", "hostname; echo $USER") == "node2\nops\n"


def test_the_nodes_are_two_machines(demo: Demo) -> None:
    assert demo.addresses["node1"] != demo.addresses["node2"]
    assert "llama-server-gpu1.service" in demo.out("node1", "systemctl list-units --no-legend")
    assert "llama-server-split0.service" in demo.out("node2", "systemctl list-units --no-legend")
    assert demo.ssh("node2", "nginx -t").returncode == 127


def test_a_fresh_unknown_key_is_refused(demo: Demo, tmp_path: object) -> None:
    key = f"{tmp_path}/other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    done = demo.ssh("node1", "true", "-i", key, "-o", "IdentityFile=none")
    config = (demo.directory / "ssh_config").read_text()
    assert done.returncode == 0  # ssh_config's own key is offered as well
    other = demo.directory / "other_config"
    other.write_text(config.replace(str(demo.directory / "key"), key))
    refused = subprocess.run(
        ["ssh", "-F", str(other), "-o", "BatchMode=yes", "node1", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 255
    assert "Permission denied (publickey)" in refused.stderr


def test_host_keys_are_fresh_and_checked(demo: Demo) -> None:
    lines = (demo.directory / "known_hosts").read_text().splitlines()
    assert len({line.split()[2] for line in lines}) == len(lines) == 2
    assert (demo.directory / "key").stat().st_mode & 0o777 == 0o600
    wrong = demo.directory / "wrong_hosts"
    first, second = (line.split() for line in lines)
    wrong.write_text(f"{first[0]} {first[1]} {second[2]}\n")
    done = demo.ssh("node1", "true", "-o", f"UserKnownHostsFile={wrong}")
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr


def test_a_shell_has_a_terminal(demo: Demo) -> None:
    done = demo.ssh("node1", "tty; stty size; echo $TERM", "-tt")
    assert "/dev/pts/" in done.stdout
    shell = subprocess.run(
        ["ssh", "-tt", "-F", str(demo.directory / "ssh_config"), "node1"],
        input="systemctl is-active nginx\nexit 3\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert shell.returncode == 3
    assert "active" in shell.stdout
    assert "node1 of llamatop's embedded cluster" in shell.stdout


def test_the_machine_s_own_driver_and_dangerous_commands_are_out_of_reach(demo: Demo) -> None:
    program = "import ctypes\ntry: ctypes.CDLL('libnvidia-ml.so.1')\nexcept OSError as e: print(e)"
    assert "file too short" in demo.out("node1", f'python3 -c "{program}"')
    refused = demo.ssh("node1", "reboot")
    assert refused.returncode == 1
    assert "refused" in refused.stderr
