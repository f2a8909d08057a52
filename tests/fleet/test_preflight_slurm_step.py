"""Tasks of a Slurm step over their own connections: strangers on the port, tasks that end, garbage and floods."""

import contextlib
import socket
import threading
import time

import pytest

from envlock.fleet.preflight import slurm_step
from envlock.fleet.preflight.messages import Verdict, encode
from envlock.fleet.preflight.transport import TransportError

STEP = {"SLURM_JOB_ID": "77", "SLURM_STEP_ID": "1", "SLURM_STEP_NODELIST": "localhost"}


class Step:
    """The tasks of one step as threads, each with its own end of the connections."""

    def __init__(self, size, monkeypatch, **environ):
        # Each task counts its own calls: as a process of its own does.
        monkeypatch.setattr(slurm_step, "_calls", iter(lambda: 0, 1))
        self.environ = {**STEP, "SLURM_STEP_NUM_TASKS": str(size), **environ}
        self.until = time.monotonic() + 20

    def task(self, rank, **environ):
        mine = {**self.environ, "SLURM_PROCID": str(rank), **environ}
        return slurm_step.of_environment(mine, self.until)


@contextlib.contextmanager
def background(function, *arguments):
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    yield
    thread.join(30)
    assert not thread.is_alive()


@pytest.fixture
def step(monkeypatch):
    return Step(2, monkeypatch)


def port_of(transport):
    return transport._server.getsockname()[1]


def follow(step, heard, messages=(b"hello",), **environ):
    other = step.task(1, **environ)
    for message in messages:
        other.send(message)
    heard.append(other.hear(step.until))
    other.part(step.until)


def test_messages_of_any_length_arrive_whole_and_in_order(step):
    heard = []
    first = step.task(0)
    long = b"x" * 3_000_000
    with background(follow, step, heard, (b"", long, b"last")):
        came = [first.collect([1], step.until)[1] for _ in range(3)]
        first.tell(b"verdict")
        first.part(step.until)
    assert came == [b"", long, b"last"] and heard == [b"verdict"]


def test_strangers_are_not_heard_and_keep_nobody_out(step):
    first = step.task(0)
    port = port_of(first)
    silent, babbling, lying = (socket.create_connection(("127.0.0.1", port)) for _ in range(3))
    babbling.sendall(b"GET / HTTP/1.1\r\n" * 1000)
    lying.sendall(slurm_step._LENGTH.pack(1) + bytes(48))
    heard = []
    with background(follow, step, heard):
        assert first.collect([1], step.until) == {1: b"hello"}
        first.tell(b"verdict")
        first.part(step.until)
    assert heard == [b"verdict"]
    for each in (silent, babbling, lying):
        each.close()


def test_a_task_of_another_step_is_not_let_in(step, monkeypatch):
    first = step.task(0)
    monkeypatch.setattr(slurm_step, "PATIENCE", 0.3)
    key = b"another"
    ports = [port_of(first)]
    until = time.monotonic() + 0.5
    with (
        background(first.collect, [1], until),
        pytest.raises(TransportError, match="rank 0 cannot be reached"),
    ):
        slurm_step._connect("127.0.0.1", ports, key, 1, until)
    first.close()


def test_another_program_on_the_port_is_passed_over(step, monkeypatch):
    monkeypatch.setattr(slurm_step, "PATIENCE", 0.3)
    with socket.socket() as squatter:
        first = step.task(0)
        port = port_of(first)
        first.close()
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("", port))
        squatter.listen()
        first = step.task(0)
        assert port_of(first) != port
        heard = []
        with background(follow, step, heard):
            first.collect([1], step.until)
            first.tell(b"verdict")
            first.part(step.until)
    assert heard == [b"verdict"]


def test_a_task_that_ends_is_missed_at_once(monkeypatch):
    step = Step(3, monkeypatch)
    first = step.task(0)

    def ends():
        other = step.task(1)
        other.send(b"hello")
        other.close()

    def stays():
        other = step.task(2)
        other.send(b"hello")
        other.hear(step.until)
        other.part(step.until)

    with background(ends), background(stays):
        assert first.collect([1, 2], step.until) == {1: b"hello", 2: b"hello"}
        assert first.collect([1], step.until) == {}
        first.tell(b"")
        first.part(step.until)
    assert time.monotonic() < step.until - 10


def test_without_the_first_task_the_others_end(step):
    first = step.task(0)

    def serve():
        first.collect([1], step.until)
        first.close()

    with background(serve):
        other = step.task(1)
        other.send(b"hello")
        with pytest.raises(TransportError, match="the connection to rank 0 was lost"):
            other.hear(step.until)
        other.close()


def test_a_first_task_that_never_comes_is_waited_for_no_longer_than_asked(step):
    step.until = time.monotonic() + 0.2
    with pytest.raises(
        TransportError, match=r"rank 0 cannot be reached at localhost, ports \d+-\d+: .*refused"
    ):
        step.task(1)


def test_a_message_that_is_too_long_is_refused_before_it_is_read(step):
    first = step.task(0)
    failed = []

    def serve():
        with pytest.raises(TransportError, match=r"4294967295 bytes"):
            first.collect([1], step.until)
        failed.append(True)
        first.close()

    with background(serve):
        other = step.task(1)
        other._peers[0].connection.sendall(b"\xff\xff\xff\xff")
        other.close()
    assert failed


def test_what_is_said_to_all_reaches_all_that_are_there(monkeypatch):
    step = Step(4, monkeypatch)
    first = step.task(0)
    heard = []
    with contextlib.ExitStack() as stack:
        for rank in (1, 2, 3):

            def task(rank=rank):
                other = step.task(rank)
                other.send(encode(rank))
                heard.append(other.hear(step.until))
                other.part(step.until)

            stack.enter_context(background(task))
        assert first.collect([1, 2, 3], step.until) == {1: b"1", 2: b"2", 3: b"3"}
        first.tell(encode(Verdict("fine", "")))
        first.part(step.until)
    assert heard == [encode(Verdict("fine", ""))] * 3
