"""A real Slurm of some slurmd on loopback, with munge: a configuration, daemons started and ended by the tests."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.ssh_support import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "salloc", "scontrol")


class Slurm:
    """A cluster: its folder, its nodes' daemons, and what a command needs to reach it."""

    def __init__(self, folder, nodes):
        self.folder = folder
        self.nodes = [f"node{number}" for number in range(1, nodes + 1)]
        self.environ = {"SLURM_CONF": str(folder / "slurm.conf")}
        self.daemons = {}

    def start(self, name, *command):
        log = (self.folder / f"{name}.log").open("wb")
        with log:
            self.daemons[name] = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **self.environ}, start_new_session=True
            )

    def start_node(self, node):
        self.start(node, program("slurmd"), "-D", "-N", node)

    def kill_node(self, node):
        """End a node's daemon as a crash does."""
        self.daemons[node].kill()
        self.daemons[node].wait(10)

    def run(self, *command):
        environ = {**os.environ, **self.environ}
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environ)

    def wait_until_idle(self, seconds=60):
        """Wait until every node is free; skips the test with what the daemons said where that never comes."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            states = self.run("sinfo", "--noheader", "--Node", "--format=%t").stdout.split()
            if states == ["idle"] * len(self.nodes):
                return
            time.sleep(0.2)
        logs = [
            f"{log.name}: {log.read_text(errors='replace').splitlines()[-2:]}"
            for log in self.folder.glob("*.log")
        ]
        pytest.skip(f"Slurm does not start here: {logs}")

    def stop(self):
        for daemon in reversed(self.daemons.values()):
            daemon.terminate()
        for daemon in self.daemons.values():
            try:
                daemon.wait(5)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(daemon.pid, signal.SIGKILL)
                daemon.wait(5)


def program(name):
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def slurm(folder, nodes=4, prolog=None):
    """Start a cluster; ``prolog`` is a script whose ``export NAME=value`` lines a node adds to its tasks' variables."""
    missing = [name for name in PROGRAMS if program(name) is None]
    if missing:
        pytest.skip(f"Slurm is not installed (no {', '.join(missing)})")
    if os.geteuid() != 0:
        pytest.skip("Slurm's daemons are started as root here")
    cluster = Slurm(folder, nodes)
    for each in [folder, *folder.parents[: len(folder.parents) - 1]]:
        if each.stat().st_uid == os.geteuid() and each != Path("/tmp"):
            each.chmod(0o755)  # munged takes a socket only where everybody may look
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    lines = [
        "ClusterName=loopback", f"SlurmctldHost={host}(127.0.0.1)", f"SlurmctldPort={free_port()}", "SlurmUser=root",
        "AuthType=auth/munge", f"AuthInfo=socket={folder}/munge.sock", "ProctrackType=proctrack/pgid",
        "TaskPlugin=task/none", "MpiDefault=none", "SelectType=select/linear", "ReturnToService=2",
        "SlurmdParameters=config_overrides", "KillWait=3", f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/spool-%n", f"SlurmctldPidFile={folder}/slurmctld.pid", f"SlurmdPidFile={folder}/%n.pid",
        *([f"TaskProlog={prolog}"] if prolog else []),
        *[f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} CPUs=4" for node in cluster.nodes],
        f"PartitionName=all Nodes={','.join(cluster.nodes)} Default=YES MaxTime=INFINITE",
    ]  # fmt: skip
    (folder / "slurm.conf").write_text("\n".join(lines) + "\n")
    (folder / "state").mkdir()
    try:
        cluster.start(
            "munged", program("munged"), "--foreground", f"--key-file={key}", f"--socket={folder}/munge.sock",
            f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log", f"--seed-file={folder}/munge.seed",
        )  # fmt: skip
        for _ in range(100):
            if (folder / "munge.sock").exists():
                break
            time.sleep(0.1)
        cluster.start("slurmctld", program("slurmctld"), "-D")
        for node in cluster.nodes:
            cluster.start_node(node)
        cluster.wait_until_idle()
        yield cluster
    finally:
        cluster.stop()
