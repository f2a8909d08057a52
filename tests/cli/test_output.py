"""Where results go: any locale, closed and full streams, files that are whole or untouched."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from envlock.cli.output import emit
from envlock.manifest.read import loads
from tests.cli.support import EXAMPLES, TOP, run

HEALTHY = EXAMPLES / "train-h100.toml"
OLD_DRIVER = EXAMPLES / "old-driver.toml"
PLAIN_LOCALES = (
    {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1"},
    {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
)


def shell(command: str, **more) -> subprocess.CompletedProcess[bytes]:
    """Run a shell line in which ``envlock`` is this checkout's."""
    line = f'envlock() {{ "{sys.executable}" -m envlock "$@"; }}; {command}'
    env = {**os.environ, "PYTHONPATH": str(TOP)}
    env.pop("GITHUB_ACTIONS", None)
    return subprocess.run(["bash", "-c", line], capture_output=True, check=False, env=env, timeout=60, **more)


@pytest.mark.parametrize("locale", PLAIN_LOCALES)
@pytest.mark.parametrize(
    "arguments", [("check",), ("check", "--json"), ("check", "--format", "markdown"), ("diff", HEALTHY)]
)
def test_facts_outside_the_locale_come_as_utf_8(tmp_path, locale, arguments):
    odd = tmp_path / "odd.toml"
    odd.write_text(OLD_DRIVER.read_text().replace('"470.256.02"', '"470.256.02\\u00e9 \\U0001f600"', 1))
    there = {**locale, "LANG": "C"}
    environment = {**os.environ, **there, "PYTHONPATH": str(TOP)}
    done = subprocess.run(
        [sys.executable, "-m", "envlock", *map(str, arguments), odd],
        capture_output=True, check=False, env=environment, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr.decode()
    assert "é" in done.stdout.decode("utf-8")


def test_a_capture_under_a_plain_locale_can_be_read_back():
    done = run("capture", "--name", "Ünï", env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert done.returncode == 0, done.stderr
    assert loads(done.stdout).capture.name == "Ünï"


def test_a_closed_standard_output_leaves_the_verdict():
    assert shell(f"envlock check {OLD_DRIVER} >&-").returncode == 1
    assert shell(f"envlock check {HEALTHY} --json >&-").returncode == 0


def test_a_closed_standard_input_is_an_empty_one():
    done = shell("envlock check - <&-")
    assert (done.returncode, b"Traceback" in done.stderr) == (2, False)


@pytest.mark.parametrize("arguments", [f"check {OLD_DRIVER}", f"check {OLD_DRIVER} -o /dev/full", "--help"])
def test_a_full_disk(arguments):
    done = shell(f"envlock {arguments} {'' if '-o' in arguments else '> /dev/full'}")
    assert done.returncode == 2
    assert done.stderr.decode().endswith("No space left on device\n") and done.stderr.count(b"\n") == 1


def test_a_reader_that_has_seen_enough_changes_nothing_about_the_verdict(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(sys, "stdout", os.fdopen(writer, "w"))
    emit("x" * 100_000, None)
    sys.stdout.close()


def test_a_name_in_an_error_is_one_line_without_escapes():
    done = run("check", "a\n\x1b[31mb.toml")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "\x1b" not in done.stderr


def test_the_shells_own_streams_are_written_to_where_they_stand(tmp_path):
    held = tmp_path / "held"
    done = shell(f"(echo before; envlock check {HEALTHY} -o /dev/stdout; echo after) > {held}")
    assert done.returncode == 0, done.stderr
    lines = held.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after") and lines[1].startswith("fine")
    assert shell(f"envlock check {HEALTHY} -o /dev/stdout | cat").stdout.startswith(b"fine")
    assert shell(f"envlock check {HEALTHY} -o /dev/fd/3 3>&1").stdout.startswith(b"fine")


def test_a_file_that_outgrows_its_limit_leaves_the_old_one_whole(tmp_path):
    held = tmp_path / "held.toml"
    held.write_text("old\n")
    done = shell(
        f"envlock update {OLD_DRIVER} --against {HEALTHY} -o {held}",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512)),
    )
    assert (done.returncode, done.stderr.decode().strip()) == (
        2,
        f"envlock: cannot write {held}: File too large",
    )
    assert held.read_text() == "old\n" and list(tmp_path.iterdir()) == [held]


def test_an_interrupted_command_is_neither_fine_nor_a_problem():
    process = subprocess.Popen(
        [sys.executable, "-m", "envlock", "check", "-"],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(TOP)}, text=True,
    )  # fmt: skip
    try:
        _wait_until_it_reads(process.pid)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, told.strip()) == (130, "envlock: interrupted")


def _wait_until_it_reads(pid: int) -> None:
    """Wait until a process sleeps in a read of its standard input."""
    for _ in range(400):
        if "pipe_read" in Path(f"/proc/{pid}/wchan").read_text() or _sleeps_in_read(pid):
            return
        threading.Event().wait(0.05)
    pytest.fail("the command never read its standard input")


def _sleeps_in_read(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/syscall").read_text().startswith("0 0x0 ")
    except OSError:
        return False
