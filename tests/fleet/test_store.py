"""A fleet's folder and file: what is written comes back, a killed run is gone on with, hostile ones are refused."""

import json
import os
import resource
import subprocess
import sys

import pytest

from envlock.errors import EnvlockError
from envlock.fleet.store import Writer, entries, file_name, is_node_name
from envlock.manifest.model import Driver, Manifest

OLD = Manifest(driver=Driver(version="550.54.14"))
NEW = Manifest(driver=Driver(version="550.90.07"))
ASKED = ["b", "a", "user/1", "dead"]


def write(path, resume=False, answers=None):
    with Writer(str(path), "ssh", resume=resume) as writer:
        writer.ask(ASKED)
        for node, manifest in (answers or {"a": OLD, "b": NEW, "user/1": NEW}).items():
            writer.add(node, manifest)
        writer.fail("dead", "no answer\x1b[31m within\n60 s")


@pytest.fixture(params=["fleet", "fleet.jsonl"])
def path(request, tmp_path):
    return tmp_path / request.param


def read(path):
    return {entry.node: entry.failed or entry.load() for entry in entries(str(path))}


def test_what_is_written_comes_back(path):
    write(path)
    assert read(path) == {"a": OLD, "b": NEW, "user/1": NEW, "dead": "no answer\ufffd[31m within 60 s"}


def test_a_killed_run_leaves_what_it_had_and_is_gone_on_with(path):
    """The process ends between two nodes, without a chance to clean up."""
    code = (
        "import os, sys; from tests.fleet.test_store import *\n"
        "writer = Writer(sys.argv[1], 'ssh'); writer.ask(ASKED); writer.add('a', OLD); writer.fail('b', 'x'); os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == 9
    left = read(path)
    assert left["a"] == OLD and "not reached" in left["user/1"] and set(left) == set(ASKED)
    with pytest.raises(EnvlockError, match="--resume goes on with it"):
        Writer(str(path), "ssh")
    writer = Writer(str(path), "ssh", resume=True)
    assert writer.captured == {"a"}
    write(path, resume=True, answers={"b": NEW, "user/1": NEW})
    assert read(path) == {"a": OLD, "b": NEW, "user/1": NEW, "dead": "no answer\ufffd[31m within 60 s"}


def test_a_line_that_was_never_finished_is_a_node_not_reached(tmp_path):
    path = tmp_path / "fleet.jsonl"
    write(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert "not reached" in read(path)["dead"] and read(path)["a"] == OLD


def test_a_folder_without_an_index_is_a_fleet_of_its_manifests(tmp_path):
    for node in ("one", "two"):
        (tmp_path / f"{node}.toml").write_text('schema = "envlock/1"\n')
    (tmp_path / "notes.txt").write_text("")
    assert read(tmp_path) == {"one": Manifest(), "two": Manifest()}


def test_an_entry_of_a_folder_reads_nothing_before_it_is_asked(tmp_path):
    write(tmp_path / "fleet")
    (tmp_path / "fleet" / "a.toml").write_text("not = [")
    found = {entry.node: entry for entry in entries(str(tmp_path / "fleet"))}
    with pytest.raises(EnvlockError, match=r"a\.toml:1: not TOML"):
        found["a"].load()
    assert found["b"].read().startswith(b'schema = "envlock/1"')


@pytest.mark.parametrize(
    ("node", "name"), [("a", "a.toml"), ("../x", "%2E.%2Fx.toml"), ("[::1]:22", "%5B%3A%3A1%5D%3A22.toml")]
)
def test_a_nodes_file_stays_in_the_folder(node, name):
    assert file_name(node) == name


def test_names_that_no_node_has():
    for name in ("", "a\nb", "\x1b[31m", "x" * 201, "\u202egnp", "\u00e9" * 60, "\ud800"):
        assert not is_node_name(name), ascii(name)
    with Writer("-", "ssh") as writer, pytest.raises(EnvlockError, match="is no node's name"):
        writer.ask(["a\x1bb"])


HEADER = '{"schema":"envlock-fleet/1"}\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected a line with"),
        ('{"schema":"envlock-fleet/9"}\n', "is not known"),
        (HEADER + "[" * 100_000 + "\n", "fleet.jsonl:2: not a node's line"),
        (HEADER + '{"node":"a\\u001b","failed":"x"}\n', "fleet.jsonl:2: 'a\ufffd' is no node's name"),
        (HEADER + '{"node":"a","failed":"x"}\n' * 2, "fleet.jsonl:3: node a for the second time"),
        (HEADER + '{"node":"a"}\n', 'expected "manifest" or "failed"'),
        (HEADER + '{"node":"a","manifest":' + "[" * 100_000 + "}\n", "fleet.jsonl:2: not a node's line"),
        (HEADER + '{"node":"a","manifest":{"schema":"envlock/7"}}\n', "schema 'envlock/7' is not known"),
        (HEADER + '{"node":"a","manifest":{"driver":{"version":5}}}\n', "fleet.jsonl:2: not a manifest"),
    ],
)
def test_a_hostile_file_is_refused_with_its_line(tmp_path, text, told):
    path = tmp_path / "fleet.jsonl"
    path.write_text(text)
    with pytest.raises(EnvlockError) as error:
        read(path)
    assert told in str(error.value)


@pytest.mark.parametrize("file", ["../a.toml", "/etc/hostname", ".hidden", "a\\b", "", "a\x00"])
def test_an_index_names_only_files_beside_it(tmp_path, file):
    (tmp_path / "index.json").write_text(
        json.dumps({"schema": "envlock-fleet/1", "nodes": {"a": {"file": file}}})
    )
    with pytest.raises(EnvlockError, match="not the name of a file beside it"):
        read(tmp_path)


def test_links_pipes_and_devices_are_no_manifests(tmp_path):
    (tmp_path / "real").write_text('schema = "envlock/1"\n')
    (tmp_path / "link.toml").symlink_to("real")
    os.mkfifo(tmp_path / "pipe.toml")
    found = {entry.node: entry for entry in entries(str(tmp_path))}
    with pytest.raises(EnvlockError, match="a link, not a file"):
        found["link"].load()
    with pytest.raises(EnvlockError, match="not a regular file"):
        found["pipe"].load()


def test_a_full_disk_keeps_what_was_written(path):
    code = (
        "import resource, signal, sys; from tests.fleet.test_store import *\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "big = Manifest(environ={f'NCCL_{n}': 'x' * 100 for n in range(30)})\n"
        "with Writer(sys.argv[1], 'ssh') as writer:\n"
        "    writer.ask(ASKED); writer.add('a', OLD); writer.add('b', big)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert "EnvlockError: cannot write" in done.stderr and "File too large" in done.stderr
    left = read(path)
    assert left["a"] == OLD and "not reached" in left["b"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 2000
