"""Fleets over real sshds on loopback, each a node with its own environment; broken nodes among them."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from envlock.errors import EnvlockError
from envlock.fleet.engines.ssh import read_hosts
from tests.cli.support import TOP, run
from tests.fleet.node_support import facts, stacks, strange_python
from tests.ssh_support import free_port, sshd

NOISE = """
case "$NODE" in
hangs) sleep 600 ;;
dies) kill -9 $PPID $$ ;;
garbage) printf '\\033[31mhello\\n'; exit 0 ;;
floods) exec cat /dev/zero ;;
cut) printf '{"schema": "envlock-obs'; exit 0 ;;
none) exit 3 ;;
banner) echo '{Welcome to the cluster}'; echo hello ;;
esac
"""
BROKEN = ("hangs", "dies", "garbage", "floods", "cut", "none")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Start one sshd for the nodes that are alike, one for the odd one; every name is a host of the ssh configuration."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: it compiles the driver's double")
    folder = tmp_path_factory.mktemp("fleet")
    most, odd = stacks(folder)
    strange = strange_python(folder / "bin", NOISE)
    # A shell's own start files may set PATH anew: it is set behind them.
    login = folder / "login"
    login.write_text(f'#!/bin/sh\nPATH={strange}:$PATH exec sh -c "$SSH_ORIGINAL_COMMAND"\n')
    login.chmod(0o755)
    with contextlib.ExitStack() as stack:
        servers = {}
        for name, environ in (("most", most.environ), ("odd", odd.environ)):
            variables = " ".join(f'"{key}={value}"' for key, value in environ.items())
            servers[name] = stack.enter_context(
                sshd(
                    folder / f"sshd-{name}",
                    f"SetEnv {variables}",
                    "AcceptEnv NODE",
                    "MaxStartups 100",
                    f"ForceCommand {login}",
                )
            )
        config = folder / "ssh_config"
        nodes = ("node1", "node2", "node3", "banner", *BROKEN)
        config.write_text(
            "".join(servers["most"].stanza(node) + f"  SetEnv NODE={node}\n" for node in nodes)
            + servers["odd"].stanza("odd")
            + f"Host refuses\n  HostName 127.0.0.1\n  Port {free_port()}\n"
            + servers["most"]
            .stanza("stranger")
            .replace(f"IdentityFile {servers['most'].folder}/user", "IdentityFile /nowhere")
        )
        # The user's own configuration is read from the home that the system knows: an ssh that reads this one.
        client = folder / "client"
        client.mkdir()
        (client / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {config} "$@"\n')
        (client / "ssh").chmod(0o755)
        yield {"PATH": f"{client}:{os.environ['PATH']}"}


def capture(cluster, hosts, *arguments, **options):
    return run("fleet", "capture", "--ssh", "-", *arguments, stdin="\n".join(hosts), env=cluster, **options)


@pytest.mark.parametrize("name", ["fleet", "fleet.jsonl"])
def test_the_odd_node_arrives_odd(cluster, tmp_path, name):
    done = capture(cluster, ["# mine", "node1", "node2 # rack 2", "", "root@odd"], "-o", tmp_path / name)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "3 of 3 nodes captured\n")
    usual = ("550.90.07", "1.0")
    assert facts(tmp_path / name) == {"node1": usual, "node2": usual, "odd": ("550.54.14", "2.0")}


def test_equal_nodes_give_equal_files(cluster, tmp_path):
    assert capture(cluster, ["node1", "node2"], "-o", tmp_path / "fleet").returncode == 0
    one, two = (tmp_path / "fleet" / f"node{number}.toml" for number in (1, 2))
    assert one.read_bytes() == two.read_bytes()
    assert "node1" not in one.read_text()


def test_a_broken_node_is_a_line_and_the_others_still_come(cluster, tmp_path):
    hosts = ["node1", *BROKEN, "refuses", "stranger", "banner", "odd"]
    done = capture(cluster, hosts, "-o", tmp_path / "fleet", "--timeout", "20", "--parallel", "4")
    assert done.returncode == 1
    assert "3 of 11 nodes captured" in done.stderr and "\x1b" not in done.stderr
    found = facts(tmp_path / "fleet")
    assert (found.pop("node1"), found.pop("banner"), found.pop("odd")[0]) == (
        ("550.90.07", "1.0"), ("550.90.07", "1.0"), "550.54.14"
    )  # fmt: skip
    told = {
        "hangs": "no answer within 20 s", "dies": "", "garbage": r"printed '\x1b[31mhello' instead of a probe's output",
        "floods": "printed more than 16 MiB", "cut": "cut off or damaged", "none": "ended with exit code 3",
        "refuses": "Connection refused", "stranger": "Permission denied",
    }  # fmt: skip
    assert set(found) == set(told)
    for node, text in told.items():
        assert text in found[node], (node, found[node])
        assert found[node] in done.stderr


def test_a_resumed_capture_asks_only_who_is_missing(cluster, tmp_path):
    for path in (tmp_path / "fleet", tmp_path / "fleet.jsonl"):
        assert capture(cluster, ["node1", "refuses"], "-o", path).returncode == 1
        again = capture(cluster, ["node1", "refuses"], "-o", path)
        assert again.returncode == 2 and "--resume goes on with it" in again.stderr
        held = (path / "node1.toml").read_bytes() if path.is_dir() else path.read_bytes().splitlines()[1]
        done = capture(cluster, ["node1", "node2", "refuses"], "-o", path, "--resume")
        assert done.returncode == 1 and "2 of 3 nodes captured" in done.stderr
        assert set(facts(path)) == {"node1", "node2", "refuses"}
        # A second capture would have another time.
        now = (path / "node1.toml").read_bytes() if path.is_dir() else path.read_bytes()
        assert held in now


def test_the_environment_asked_for_is_what_is_captured(cluster, tmp_path):
    prefix = tmp_path / "not there's"
    done = capture(cluster, ["node1"], "-o", tmp_path / "fleet", "--prefix", prefix)
    assert done.returncode == 2
    assert str(prefix) in facts(tmp_path / "fleet")["node1"]


def test_without_an_output_the_lines_go_to_standard_output(cluster, tmp_path):
    done = capture(cluster, ["node1"])
    (tmp_path / "fleet.jsonl").write_text(done.stdout)
    assert facts(tmp_path / "fleet.jsonl") == {"node1": ("550.90.07", "1.0")}
    with open("/dev/full", "w") as full:
        code = [sys.executable, "-m", "envlock", "fleet", "capture", "--ssh", "-"]
        done = subprocess.run(
            code, input="node1", stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, check=False,
            env={**os.environ, **cluster, "PYTHONPATH": str(TOP)},
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        2,
        "envlock: cannot write standard output: No space left on device\n",
    )


def test_a_full_disk_is_one_error_and_keeps_what_was_written(cluster, tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", place], check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        hosts = ["node1", "node2", "node3"]
        assert capture(cluster, hosts[:1], "-o", place / "fleet").returncode == 0
        free = os.statvfs(place)
        (place / "ballast").write_bytes(b"x" * (free.f_bavail * free.f_frsize - 4096))
        done = capture(cluster, hosts, "-o", place / "fleet", "--resume")
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1 and done.stderr.endswith("No space left on device\n")
        assert set(facts(place / "fleet")) == set(hosts)
    finally:
        subprocess.run(["umount", place], check=True)


def test_an_interrupted_capture_leaves_what_it_had_and_no_process(cluster, tmp_path):
    path = tmp_path / "fleet"
    process = subprocess.Popen(
        [sys.executable, "-m", "envlock", "fleet", "capture", "--ssh", "-", "-o", path],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **cluster, "PYTHONPATH": str(TOP)},
    )  # fmt: skip
    process.stdin.write("node1\nhangs\n")
    process.stdin.close()
    for _ in range(600):
        if (path / "node1.toml").exists():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    process.stderr.close()
    found = facts(path)
    assert found["node1"] == ("550.90.07", "1.0") and "not reached" in found["hangs"]
    assert not subprocess.run(
        ["pgrep", "-f", f"{cluster['PATH'].split(':')[0]}.* hangs "], check=False, capture_output=True
    ).stdout


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        ("-oProxyCommand=x", "line 1: not one host"),
        ("a\nb c", "line 2: not one host"),
        ("a@n\nb@n", "line 2: n stands"),
    ],
)
def test_lists_that_are_none(text, told):
    with pytest.raises(EnvlockError, match=told):
        read_hosts(text)


def test_who_logs_in_is_no_part_of_a_nodes_name():
    assert list(read_hosts("me@n1\nssh://me@n2:2222/\nn3\n[::1]\n")) == ["n1", "n2:2222", "n3", "[::1]"]
