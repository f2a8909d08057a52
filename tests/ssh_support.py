"""A real sshd on loopback that lets this user in by a key of its own; an ssh that knows it."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Server:
    """One sshd: where it listens, and the files that a client needs."""

    folder: Path
    port: int
    process: subprocess.Popen

    def options(self):
        """Return what an ssh command is given to reach it."""
        return (
            f"-F /dev/null -i {self.folder}/user -p {self.port} -o UserKnownHostsFile={self.folder}/known_hosts"
            " -o StrictHostKeyChecking=yes -o BatchMode=yes -o IdentitiesOnly=yes"
        ).split()

    def stanza(self, alias):
        """Return the stanza of an ssh configuration that gives this server a name."""
        return (
            f"Host {alias}\n  HostName 127.0.0.1\n  Port {self.port}\n  User {user()}\n  IdentityFile {self.folder}/user\n"
            f"  UserKnownHostsFile {self.folder}/known_hosts\n  StrictHostKeyChecking yes\n  IdentitiesOnly yes\n"
        )


def user():
    return pwd.getpwuid(os.geteuid()).pw_name


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def sshd(folder, *settings):
    """Start an sshd with further lines of sshd_config, and end it; skips the test where none can be had."""
    program = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if program is None or shutil.which("ssh") is None:
        pytest.skip("sshd is not installed")
    folder.mkdir(exist_ok=True)
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    shutil.copy(folder / "user.pub", folder / "authorized_keys")
    port = free_port()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized_keys\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
        "StrictModes no\nUsePAM no\nPidFile none\nPermitUserEnvironment no\n"
        + "".join(f"{line}\n" for line in settings)
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd's unprivileged half is shut in
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([program, "-D", "-e", "-f", str(folder / "config")], stderr=output)
    server = Server(folder, port, process)
    try:
        for _ in range(100):
            if process.poll() is None and "Server listening" in log.read_text():
                break
            time.sleep(0.1)
        login = subprocess.run(
            ["ssh", *server.options(), f"{user()}@127.0.0.1", "true"], capture_output=True, text=True, timeout=60, check=False
        )  # fmt: skip
        if login.returncode:
            pytest.skip(f"sshd lets nobody in: {(log.read_text() + login.stderr).splitlines()[-3:]}")
        yield server
    finally:
        process.terminate()
        process.wait(10)
