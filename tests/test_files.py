"""Result files are whole or untouched; links, modes and pipes stay what they were."""

import os
import threading

import pytest

from envlock.files import write_atomically


def test_a_named_pipe_is_written_to_and_stays(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_atomically(str(pipe), "whole\n")
    reader.join(10)
    assert read == ["whole\n"] and pipe.is_fifo()


def test_a_link_is_followed_and_the_mode_stays(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    write_atomically(str(tmp_path / "link"), "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640


def test_an_interruption_while_writing_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    held = tmp_path / "held.toml"
    held.write_text("old\n")

    def interrupt(_descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(str(held), "new\n")
    assert held.read_text() == "old\n" and list(tmp_path.iterdir()) == [held]
