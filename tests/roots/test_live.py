"""This machine as a root: files as they are, and children that cannot hold envlock up."""

import gc
import os
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from envlock.probe.root import TooLargeError, UnobservableError
from envlock.roots.live import LiveRoot


def shell(text, **options):
    return LiveRoot({"PATH": os.environ["PATH"]}).run(["sh", "-c", text], **options)


def reason(text, **options):
    with pytest.raises(UnobservableError) as caught:
        shell(text, **options)
    return str(caught.value)


def test_files_under_proc_are_read_to_the_end(tmp_path):
    root = LiveRoot()
    assert root.read("/proc/self/environ").count(b"\0") >= 1
    assert len(root.read("/proc/kallsyms", limit=64 << 20)) > 100_000
    with pytest.raises(TooLargeError):
        root.read("/proc/kallsyms", limit=1000)
    with pytest.raises(OSError, match="not a regular file"):
        root.read("/dev/zero")
    (tmp_path / "empty").write_bytes(b"")
    assert root.read(str(tmp_path / "empty")) == b""


@pytest.mark.parametrize("path", ["/a\0b", "/etc/\ud800"])
def test_names_that_no_file_system_takes_are_not_found(path):
    root = LiveRoot()
    assert not root.exists(path)
    assert root.realpath(path) == path
    for ask in (root.read, root.open, root.stat, root.scan, root.readlink):
        with pytest.raises(FileNotFoundError):
            ask(path)


def test_a_child_prints_in_the_environment_given():
    assert shell("echo $PATH; echo $HOME; echo gone >&2") == os.environ["PATH"] + "\n\n"


def test_a_child_reads_nothing():
    assert shell("cat; echo end") == "end\n"


def test_how_a_child_fails_is_the_reason():
    assert reason("exit 3") == "sh failed with exit code 3"
    assert reason("kill -SEGV $$") == "sh was ended by signal 11"
    with pytest.raises(UnobservableError, match="no-such-program cannot be run: No such file"):
        LiveRoot().run(["no-such-program"])
    with pytest.raises(UnobservableError, match="cannot be run"):
        LiveRoot({"A": "b\0c"}).run(["true"])


@pytest.mark.parametrize(
    "text", ["sleep 60", "exec >&-; sleep 60", "sleep 60 & exit 0", "trap '' TERM; sleep 60"]
)
def test_a_hanging_child_costs_no_more_than_its_time(text):
    start = time.monotonic()
    assert "did not answer within 0.3 s" in reason(text + " # marker-of-this-test", timeout=0.3)
    assert time.monotonic() - start < 20


def test_what_a_hanging_child_started_ends_with_it(tmp_path):
    note = tmp_path / "pid"
    assert reason(f"sleep 77 & echo $! > {note}; wait", timeout=0.5)
    process = Path(f"/proc/{note.read_text().strip()}/stat")
    for _ in range(40):
        if not process.exists() or process.read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    raise AssertionError("the grandchild lives on")


def test_a_child_that_cannot_be_killed_does_not_hang_us(monkeypatch):
    """As with a process inside a driver call: signals do nothing until the call returns."""
    monkeypatch.setattr(os, "killpg", lambda *_: None)
    start = time.monotonic()
    with pytest.warns(ResourceWarning):
        assert "did not answer" in reason("sleep 60", timeout=0.2)
        gc.collect()
    assert time.monotonic() - start < 20


def test_output_is_bounded_while_it_is_printed():
    tracemalloc.start()
    start = time.monotonic()
    assert reason("exec cat /dev/zero", limit=1 << 20, timeout=20) == "sh printed more than 1048576 bytes"
    assert time.monotonic() - start < 15
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    assert len(shell("head -c 1048576 /dev/zero", limit=1 << 20)) == 1 << 20


@pytest.fixture
def question(monkeypatch):
    """Let the next question be this source."""

    def put(source):
        monkeypatch.setattr("pkgutil.get_data", lambda package, name: source.encode())
        return LiveRoot().ask("nvml", ["a"], timeout=5)

    return put


def test_a_question_is_answered_by_a_child(question):
    assert question("import sys, json; print(json.dumps({'arguments': sys.argv[1:]}))") == {
        "arguments": ["a"]
    }
    assert question("import sys; print('{\"isolated\": %d}' % sys.flags.isolated)") == {"isolated": 1}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ('print(\'{"unobservable": "no driver"}\')', "no driver"),
        ("print('hello')", "something else than JSON"),
        ("print('[1]')", "something else than an object"),
        ("import os; os.abort()", "ended by signal 6"),
        ("raise SystemExit(4)", "exit code 4"),
    ],
)
def test_a_question_that_fails_gives_a_reason(question, source, text):
    with pytest.raises(UnobservableError, match=text):
        question(source)


def test_deeply_nested_answers_are_no_crash(question):
    with pytest.raises(UnobservableError):
        question("print('[' * 100000)")


def test_no_descriptor_stays_open():
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        shell("true")
        reason("exit 1")
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert subprocess.run([sys.executable, "-c", ""], check=False).returncode == 0
