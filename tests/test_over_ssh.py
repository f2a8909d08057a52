"""The probe sent over a real sshd on loopback to an old Python: the manifest is that of a local capture."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.support import run
from tests.packages_support import dist_info, pip, virtualenv, wheel
from tests.ssh_support import sshd, user

TOP = Path(__file__).parent.parent
LOCAL = f"import sys; sys.path.insert(0, {str(TOP)!r}); from envlock.cli import main; main()"


def oldest_python():
    """Return the oldest CPython from 3.8 on that is on this machine."""
    found = {(sys.version_info[0], sys.version_info[1]): sys.executable}
    candidates = [shutil.which(f"python3.{minor}") for minor in range(8, sys.version_info[1])]
    candidates += [str(path) for path in Path.home().glob(".pyenv/versions/3.*/bin/python")]
    for path in filter(None, candidates):
        told = subprocess.run([path, "-V"], capture_output=True, text=True, check=False).stdout
        version = re.match(r"Python (\d+)\.(\d+)\.\d+\s*\Z", told)
        if version and (number := (int(version.group(1)), int(version.group(2)))) >= (3, 8):
            found.setdefault(number, path)
    return found[min(found)]


@pytest.fixture(scope="module")
def ssh(tmp_path_factory):
    """Start an sshd of our own and return the command that logs in by key."""
    with sshd(tmp_path_factory.mktemp("ssh")) as server:
        yield ["ssh", *server.options(), f"{user()}@127.0.0.1"]


def test_a_capture_over_ssh_is_the_local_one(ssh, tmp_path):
    python = oldest_python()
    prefix = virtualenv(tmp_path / "venv")
    pip(
        prefix,
        "install",
        "-q",
        "--no-index",
        "--no-deps",
        wheel(tmp_path / "wheels", "alpha", "1.0", {"alpha/__init__.py": ""}),
    )
    leftover = dist_info("beta", "2.0", {"beta.py": ""})
    site = next(Path(prefix).glob("lib/python3.*/site-packages"))
    for path, content in leftover.items():
        (site / path).parent.mkdir(exist_ok=True)
        (site / path).write_bytes(content)
    script = run("probe").stdout
    home = tmp_path / "home"
    home.mkdir()
    # The same environment on both sides: a login's own, and one variable that is recorded.
    there = f"env HOME={home} NCCL_DEBUG=INFO HF_TOKEN=secret"
    done = subprocess.run(
        [*ssh, f"{there} {python} - --prefix {prefix}"], input=script, capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(home.iterdir()) == []  # nothing is written there
    remote = run("capture", "--from", "-", "--reproducible", stdin=done.stdout)
    assert remote.returncode == 0, remote.stderr
    environ = subprocess.run(
        [*ssh, f"{there} env -0"], capture_output=True, text=True, timeout=30, check=True
    ).stdout
    local = subprocess.run(
        [sys.executable, "-c", LOCAL, "capture", "--reproducible", "--prefix", prefix], capture_output=True, text=True,
        env=dict(line.split("=", 1) for line in environ.split("\0") if "=" in line), cwd=home, timeout=120, check=False,
    )  # fmt: skip
    assert local.returncode == 0, local.stderr
    assert remote.stdout == local.stdout
    assert 'NCCL_DEBUG = "INFO"' in remote.stdout
    assert "secret" not in done.stdout
    assert 'alpha = { version = "1.0", installer = "pip"' in remote.stdout
    assert 'beta = { version = "2.0"' in remote.stdout


def test_what_the_far_side_cannot_do_is_told_in_one_sentence(ssh, tmp_path):
    script = run("probe").stdout
    done = subprocess.run(
        [*ssh, f"{oldest_python()} - --prefix {tmp_path}/nothing"], input=script, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"envlock: .*nothing.*\n", done.stderr)
    for python in Path.home().glob(".pyenv/versions/3.[67]*/bin/python"):
        done = subprocess.run(
            [*ssh, f"{python} -"], input=script, capture_output=True, text=True, timeout=60, check=False
        )
        assert "needs CPython 3.8 or newer" in done.stderr
        assert done.returncode == 1
