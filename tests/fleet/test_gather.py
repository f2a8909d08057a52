"""What nodes answer, whatever it is, becomes a manifest or a reason; the command says how it went."""

import contextlib
import json
import os
import pty
import subprocess
import sys

import pytest

from envlock.errors import EnvlockError
from envlock.fleet.engines import Answer
from envlock.fleet.gather import gather, read_document
from envlock.fleet.store import Writer, entries
from tests.cli.support import TOP, run

DOCUMENT = json.dumps(
    {"schema": "envlock-observation/1", "source": "live", "facts": {"driver": {"version": "550.90.07"}}}
)


def test_the_document_is_found_behind_a_message_of_the_day():
    output = f"Welcome!\n{{not this}}\n{DOCUMENT}\nbye\n".encode()
    assert read_document(output).driver.version == "550.90.07"


@pytest.mark.parametrize(
    ("output", "told"),
    [
        (b"", "printed nothing"),
        (b"\xff\xfe\x00", "instead of a probe's output"),
        (b"Password:", "printed 'Password:' instead"),
        (DOCUMENT[:-5].encode(), "cut off or damaged"),
        (b"{" * 100_000, "cut off or damaged"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "cut off or damaged"),
        (b'{"schema": "else"}', "not a probe's output"),
        (b'{"schema": "envlock-observation/1", "facts": {"driver": {"version": 5}}}', "not a probe's output"),
        (
            b'{"schema": "envlock-observation/1", "facts": {"driver": {"version": ' + b"9" * 5000 + b"}}}",
            "damaged",
        ),
    ],
)
def test_what_is_no_document_is_a_reason(output, told):
    with pytest.raises(EnvlockError, match=told):
        read_document(output)


def test_an_answer_of_a_node_that_was_not_asked_or_answered_already_counts_for_nothing(tmp_path):
    def engine(asked):
        (node,) = asked(["a", "a"])
        yield Answer(node, DOCUMENT.encode())
        yield Answer(node, failed="again")
        yield Answer("stranger", DOCUMENT.encode())

    with Writer(str(tmp_path / "fleet"), "test") as writer:
        outcome = gather(engine, writer)
    assert (outcome.nodes, outcome.captured, outcome.failed) == (1, 1, {})
    assert [entry.node for entry in entries(str(tmp_path / "fleet"))] == ["a"]


def test_an_engine_is_ended_where_nothing_can_be_written(tmp_path):
    ended = []

    def engine(asked):
        try:
            for node in asked(["a", "b"]):
                yield Answer(node, DOCUMENT.encode())
        finally:
            ended.append(True)

    path = tmp_path / "fleet"
    with pytest.raises(EnvlockError, match="cannot write"), Writer(str(path), "test") as writer:
        gather(
            engine, writer, progress=lambda _: os.rename(path, tmp_path / "gone") if path.exists() else None
        )
    assert ended == [True]


def logs(tmp_path, **documents):
    folder = tmp_path / "logs"
    folder.mkdir()
    for name, text in documents.items():
        (folder / f"{name}.json").write_text(text)
    return folder


def test_documents_that_were_collected_by_other_means_become_a_fleet(tmp_path):
    folder = logs(tmp_path, node1=DOCUMENT, node2=DOCUMENT[:40])
    (folder / "node3.log").symlink_to("node1.json")
    (folder / "notes.txt").write_text("")
    done = run("fleet", "capture", "--from", folder, "-o", tmp_path / "fleet")
    assert done.returncode == 1
    assert done.stderr.startswith("1 of 3 nodes captured\n  node2: printed a probe's output that is cut off")
    assert f"node3: cannot read {folder}/node3.log: a link, not a file" in done.stderr


def test_how_it_went_is_the_exit_code(tmp_path):
    whole = logs(tmp_path, node1=DOCUMENT)
    assert run("fleet", "capture", "--from", whole, "-o", tmp_path / "a").returncode == 0
    (whole / "node1.json").write_text("")
    assert run("fleet", "capture", "--from", whole, "-o", tmp_path / "b").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "Name one engine"),
        (("--slurm", "--ray", "auto"), "Name one engine"),
        (("--from", ".", "--", "-N4"), "go with --slurm"),
        (("--from", ".", "--resume"), "name it with -o"),
        (("--from", ".", "--prefix", "/x"), "nothing is looked at here"),
    ],
)
def test_what_does_not_go_together_is_said(arguments, told):
    done = run("fleet", "capture", *arguments)
    assert done.returncode == 2 and told in " ".join(done.stderr.split())


def test_a_reader_that_has_seen_enough_ends_the_capture_quietly(tmp_path):
    folder = logs(tmp_path, **{f"node{number}": DOCUMENT for number in range(3000)})
    command = f"{sys.executable} -m envlock fleet capture --from {folder} | head -c 10"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=True,
                          env={**os.environ, "PYTHONPATH": str(TOP)})  # fmt: skip
    assert (done.stdout, done.stderr) == ('{"schema":', "")


def test_progress_is_shown_on_a_terminal_and_leaves_no_trace(tmp_path):
    folder = logs(tmp_path, node1=DOCUMENT, node2="")
    shown, terminal = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "envlock",
        "fleet",
        "capture",
        "--from",
        folder,
        "-o",
        tmp_path / "fleet",
    ]
    process = subprocess.Popen(command, stderr=terminal, env={**os.environ, "PYTHONPATH": str(TOP)})
    os.close(terminal)
    output = b""
    with contextlib.suppress(OSError):  # a terminal whose other end is gone
        while piece := os.read(shown, 4096):
            output += piece
    os.close(shown)
    assert process.wait(30) == 1
    *before, last = output.decode().replace("\r\n", "\n").split("\r\x1b[K")
    assert (
        "1 of 2 nodes, 0 failed\r" in before and last == "1 of 2 nodes captured\n  node2: printed nothing\n"
    )
