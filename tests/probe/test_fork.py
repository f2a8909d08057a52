"""A forked child's answer is the same as ours, and where there is none the work is done here."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from envlock.probe.collect import start
from envlock.probe.fork import beside
from envlock.roots.live import LiveRoot


@pytest.fixture(autouse=True)
def a_program_of_its_own(monkeypatch):
    """Of one thread and on two processors, whatever runs the tests."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    if threading.active_count() > 1:
        monkeypatch.setattr(threading, "active_count", lambda: 1)


def test_the_work_is_done_by_a_child_and_a_long_answer_arrives_whole():
    pid, text = beside(lambda: [os.getpid(), "x" * 1_000_000])()
    assert pid != os.getpid()
    assert text == "x" * 1_000_000


def test_bytes_of_names_that_are_no_text_arrive_as_they_were():
    assert beside(lambda: "caf\udce9")() == "caf\udce9"


@pytest.mark.parametrize("end", ["raises", "killed", "half an answer"])
def test_what_a_child_did_not_answer_is_done_here(end, capfd):
    here = os.getpid()

    def work():
        if os.getpid() != here:
            if end == "raises":
                raise RuntimeError("of the child")
            if end == "half an answer":
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)
        return "done here"

    assert beside(work)() == "done here"
    assert capfd.readouterr() == ("", "")


def test_no_child_beside_other_threads(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    stop = threading.Event()
    other = threading.Thread(target=stop.wait)
    other.start()
    try:
        assert beside(os.getpid)() == os.getpid()
    finally:
        stop.set()
        other.join()


def test_no_child_on_one_processor(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert beside(os.getpid)() == os.getpid()


def test_no_child_where_no_process_can_be_made(monkeypatch):
    def full():
        raise BlockingIOError

    monkeypatch.setattr(os, "fork", full)
    before = os.listdir("/proc/self/fd")
    assert beside(os.getpid)() == os.getpid()
    assert os.listdir("/proc/self/fd") == before


def test_a_child_whose_parent_was_killed_ends(tmp_path):
    """The answer is longer than a pipe holds, so that the child waits for somebody to read it."""
    program = (
        "import os, signal, sys; from envlock.probe.fork import beside\n"
        "os.sched_getaffinity = lambda _: {0, 1}\n"
        "beside(lambda: 'x' * 10_000_000); os.kill(os.getpid(), signal.SIGKILL)"
    )
    # The child inherits standard output: it is closed when the last of the two has ended.
    ended = subprocess.run([sys.executable, "-c", program], check=False, stdout=subprocess.PIPE, timeout=60)
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, b"")


def test_a_capture_with_a_child_sees_what_one_without_sees(tmp_path):
    root = LiveRoot({**os.environ, "XDG_CACHE_HOME": str(tmp_path)})
    cold = start(root, prefix=sys.prefix, fork=True)()
    warm = start(root, prefix=sys.prefix, fork=True)()
    alone = start(
        LiveRoot({**os.environ, "HOME": "", "XDG_CACHE_HOME": ""}), prefix=sys.prefix, remember=False
    )()
    for document in (cold, warm, alone):
        for name in ("HOME", "XDG_CACHE_HOME"):
            document["facts"]["environ"].pop(name, None)
    assert cold["facts"]["library"]
    assert cold == warm == alone


def test_what_a_child_learnt_of_files_is_kept(tmp_path):
    root = LiveRoot({**os.environ, "XDG_CACHE_HOME": str(tmp_path)})
    start(root, prefix=sys.prefix, fork=True)()
    (kept,) = (tmp_path / "envlock").iterdir()
    assert b'"owner:' in kept.read_bytes()
