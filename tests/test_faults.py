"""What a machine does at the worst moment: full disks, killed processes, read-only folders, clocks that jump."""

from __future__ import annotations

import ctypes
import datetime
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import envlock
from envlock.locks.policy import verify
from envlock.manifest.read import loads
from envlock.manifest.write import write
from envlock.matrix.loader import load as load_matrix
from envlock.roots.folder import FolderRoot
from tests.cli.support import EXAMPLES, TOP, run

LOCK = EXAMPLES / "train-h100.toml"
OTHER = EXAMPLES / "old-driver.toml"
WRITERS = {
    "capture": ["capture", "--root", "{root}", "-o", "{held}"],
    "capture from a probe": ["capture", "--from", "{probe}", "-o", "{held}"],
    "update": ["update", "{held}", "--against", str(OTHER)],
    "export": ["export", "requirements", str(LOCK), "-o", "{held}"],
    "import": ["import", "{paste}", "-o", "{held}"],
    "check": ["check", str(OTHER), "--format", "html", "-o", "{held}"],
}
"""Every command that writes a file, each into one that is there already."""

PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


@pytest.fixture(params=WRITERS)
def writer(request, tmp_path):
    """Return a command that writes, and the file it writes to, which holds something."""
    root, held = tmp_path / "root", tmp_path / "results" / "held"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "os-release").write_text("ID=ubuntu\n")
    held.parent.mkdir()
    held.write_bytes(LOCK.read_bytes())
    (tmp_path / "probe.json").write_text('{"schema": "envlock-observation/1", "source": "live"}')
    (tmp_path / "paste.txt").write_text("".join(f"package{number}==1.0\n" for number in range(100)))
    places = {"root": root, "held": held, "probe": tmp_path / "probe.json", "paste": tmp_path / "paste.txt"}
    return [argument.format_map(places) for argument in WRITERS[request.param]], held


def envlock_process(arguments, code="", **more):
    """Run the command in a process that first runs ``code``."""
    code = f"import sys; sys.argv[0] = 'envlock'\n{code}\nfrom envlock.cli import main; main()"
    env = {**os.environ, "PYTHONPATH": str(TOP)}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, check=False, env=env, timeout=120, **more,
    )  # fmt: skip


@pytest.mark.parametrize("moment", ["fsync", "chmod", "replace"])
def test_a_process_that_is_killed_while_it_writes_leaves_the_old_file_whole(writer, moment):
    arguments, held = writer
    done = envlock_process(
        arguments, f"import os, signal; os.{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert held.read_bytes() == LOCK.read_bytes()


def test_a_full_disk_leaves_the_old_file_whole_and_nothing_beside_it(writer):
    arguments, held = writer
    done = envlock_process(arguments, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16)))
    assert (done.returncode, done.stderr) == (2, f"envlock: cannot write {held}: File too large\n")
    assert held.read_bytes() == LOCK.read_bytes() and list(held.parent.iterdir()) == [held]


def test_a_device_that_is_full_and_a_folder_that_is_missing_are_one_sentence(writer, tmp_path):
    arguments, held = writer
    for place, reason in (
        ("/dev/full", "No space left on device"),
        (f"{tmp_path}/none/x", "No such file or directory"),
    ):
        moved = [place if argument == str(held) else argument for argument in arguments]
        if arguments[0] == "update":
            moved = ["update", str(held), *arguments[2:], "-o", place]
        done = envlock_process(moved)
        assert (done.returncode, done.stderr) == (2, f"envlock: cannot write {place}: {reason}\n")


def test_a_read_only_folder_is_one_sentence(writer):
    arguments, held = writer
    held.chmod(0o444)
    held.parent.chmod(0o555)
    done = envlock_process(arguments, preexec_fn=_obey_modes)
    assert (done.returncode, done.stderr) == (2, f"envlock: cannot write {held}: Permission denied\n")
    assert held.read_bytes() == LOCK.read_bytes() and list(held.parent.iterdir()) == [held]


def test_a_home_that_cannot_be_written_costs_the_cache_and_no_fact(tmp_path):
    tmp_path.chmod(0o555)
    env = {**os.environ, "PYTHONPATH": str(TOP), "HOME": str(tmp_path), "XDG_CACHE_HOME": ""}
    done = subprocess.run(
        [sys.executable, "-m", "envlock", "capture", "--python", sys.executable],
        capture_output=True, text=True, check=False, env=env, timeout=120, preexec_fn=_obey_modes,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert loads(done.stdout).package.pip["pytest"].version == pytest.__version__
    assert list(tmp_path.iterdir()) == []


def test_folders_that_cannot_be_read_are_unobserved(tmp_path):
    site = environment(tmp_path, [("numpy", "1.26.4")])
    site.chmod(0o000)
    done = subprocess.run(
        [sys.executable, "-m", "envlock", "capture", "--root", tmp_path, "--prefix", "/venv"],
        capture_output=True, text=True, check=False, timeout=120, preexec_fn=_obey_modes,
        env={**os.environ, "PYTHONPATH": str(TOP)},
    )  # fmt: skip
    site.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert loads(done.stdout).capture.unobserved["package.pip"].endswith("cannot be read: Permission denied")


def _obey_modes():
    """Give up, for the program about to start, root's right to pass over modes (capabilities(7)); others have none."""
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


# ---- size, names, clocks --------------------------------------------------------------------------------


def environment(root: Path, packages) -> Path:
    """Put a virtual environment of these packages into a folder; return its site-packages."""
    (root / "venv" / "bin").mkdir(parents=True)
    (root / "venv" / "bin" / "python3.11").write_bytes(b"")
    (root / "venv" / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.9\n")
    site = root / "venv" / "lib" / "python3.11" / "site-packages"
    site.mkdir(parents=True)
    for name, version in packages:
        folder = site / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (folder / "RECORD").write_text(f"{name}/__init__.py,,\n")
    return site


def test_thousands_of_distributions_half_of_them_broken(tmp_path):
    site = environment(tmp_path, [(f"sound{number}", "1.0") for number in range(3000)])
    for number in range(3000):
        folder = site / f"broken{number}-1.0.dist-info"
        folder.mkdir()
        if number % 2:
            (folder / "METADATA").write_bytes(b"\xff" * 100)
    manifest = envlock.capture(FolderRoot(str(tmp_path)), prefix="/venv")
    told = [name for name in manifest.package.pip if name.startswith("sound")]
    unseen = [each for each in manifest.capture.unobserved if each.startswith("package.pip.broken")]
    assert (len(told), len(unseen)) == (3000, 3000)
    assert loads(write(manifest)).package == manifest.package
    assert envlock.check(manifest).verdict in ("problem", "fine", "unknown")


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "POSIX"},
        {"LC_ALL": "C", "PYTHONIOENCODING": "latin-1"},
    ],
)
def test_names_that_no_encoding_explains_come_through_in_any_locale(tmp_path, locale):
    site = environment(tmp_path, [("numpy", "1.26.4")])
    os.mkdir(os.fsencode(site) + b"/caf\xe9-1.0.dist-info")
    (site / "paths.pth").write_bytes(b"/opt/caf\xe9\n")
    os.makedirs(os.fsencode(tmp_path) + b"/opt/caf\xe9")
    out = tmp_path / "out.toml"
    done = run("capture", "--root", tmp_path, "--prefix", "/venv", "-o", out, env=locale)
    assert (done.returncode, done.stderr) == (0, "")
    assert "numpy" in loads(out.read_text(encoding="utf-8")).package.pip
    shown = run("check", out, env=locale)
    assert shown.returncode in (0, 1) and "Traceback" not in shown.stderr


EPOCHS = [datetime.datetime(year, 1, 1, tzinfo=datetime.timezone.utc) for year in (1, 1901, 1969, 2038, 9999)]


@pytest.mark.parametrize("time", EPOCHS, ids=lambda time: str(time.year))
def test_a_clock_that_is_wrong_by_ages_changes_the_time_alone(tmp_path, time):
    site = environment(tmp_path, [("numpy", "1.26.4")])
    now = envlock.capture(FolderRoot(str(tmp_path)), prefix="/venv")
    seconds = max(time.timestamp(), -(2**31))
    for file in (site, *site.rglob("*")):
        os.utime(file, (seconds, seconds))
    manifest = envlock.capture(FolderRoot(str(tmp_path)), prefix="/venv", time=time)
    again = loads(write(manifest))
    assert again == manifest and again.capture.time == time
    assert manifest.digest == now.digest and not envlock.diff(manifest, now).changes
    assert envlock.check(manifest).verdict == envlock.check(now).verdict


@pytest.mark.parametrize(
    ("today", "expired"), [(datetime.date.min, False), (datetime.date(2027, 1, 31), False), (datetime.date.max, True)]
)  # fmt: skip
def test_a_waiver_ends_with_its_day_whatever_the_clock_says(today, expired):
    text = (
        OTHER.read_text()
        + '\n[[lock.waiver]]\nrule = "driver-too-old-for-cuda"\nreason = "x"\nuntil = 2027-01-31\n'
    )
    lock = loads(text)
    found = verify(lock, lock, load_matrix(), today=today).findings
    assert ("waiver-expired" in {finding.rule for finding in found}) is expired
