"""A folder as a root: what is inside is seen, and nothing outside ever is."""

import os

import pytest

from envlock.probe.root import Entry, TooLargeError, UnobservableError
from envlock.roots.folder import FolderRoot


@pytest.fixture
def machine(tmp_path):
    """A folder with a machine in it, and a secret beside it."""
    (tmp_path / "secret").write_text("secret")
    root = tmp_path / "machine"
    (root / "usr/lib").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "usr/lib/os-release").write_text("ID=debian\n")
    (root / "etc/os-release").symlink_to("../usr/lib/os-release")
    (root / "lib").symlink_to("/usr/lib")
    return root


def test_links_are_resolved_from_the_folder_as_root(machine):
    root = FolderRoot(str(machine))
    assert root.read("/etc/os-release") == b"ID=debian\n"
    assert root.read("/lib/os-release") == b"ID=debian\n"
    assert root.realpath("/lib/no/such") == "/usr/lib/no/such"
    assert root.readlink("/lib") == "/usr/lib"
    assert root.scan("/") == [
        Entry("etc", True, False, False),
        Entry("lib", True, False, True),
        Entry("usr", True, False, False),
    ]
    assert root.stat("/lib/os-release") == root.stat("/usr/lib/os-release")


def test_links_stay_inside(machine, tmp_path):
    secret = str(tmp_path / "secret")
    (machine / "absolute").symlink_to(secret)
    (machine / "relative").symlink_to("../secret")
    (machine / "climbing").symlink_to("../" * 40 + secret)
    (machine / "up").symlink_to("..")
    (machine / "etc/up").symlink_to("../..")
    root = FolderRoot(str(machine))
    for path in (
        "/absolute",
        "/relative",
        "/climbing",
        "/up/secret",
        "/etc/up/secret",
        "/../secret",
        "/up/../secret",
    ):
        assert not root.exists(path), path
        assert not root.is_file(path), path
        for ask in (root.read, root.open, root.stat, root.scan):
            with pytest.raises(FileNotFoundError):
                ask(path)
    assert root.realpath("/up/up/etc/up") == "/"
    assert [entry.name for entry in root.scan("/up")] == sorted(os.listdir(machine))


def test_a_loop_inside_does_not_open_the_way_outside(machine, tmp_path):
    """The link's target goes in circles in here; outside, a file of that name would answer the system."""
    secret = tmp_path / "secret"
    inside = machine / str(secret).lstrip("/")
    inside.parent.mkdir(parents=True)
    inside.symlink_to(inside.name)
    (machine / "link").symlink_to(secret)
    (machine / "folder").symlink_to(tmp_path)
    root = FolderRoot(str(machine))
    assert not root.exists("/link")
    assert not root.is_file("/link")
    for ask in (root.read, root.open, root.stat):
        with pytest.raises(OSError):
            ask("/link")
    with pytest.raises(OSError):
        root.readlink("/link/x")
    assert [entry for entry in root.scan("/") if entry.name == "link"] == [Entry("link", False, False, True)]


def test_loops_and_long_chains_end(machine):
    (machine / "a").symlink_to("b")
    (machine / "b").symlink_to("a")
    (machine / "self").symlink_to("self/x")
    for number in range(60):
        (machine / f"c{number}").symlink_to(f"c{number + 1}")
    (machine / "c60").write_text("end")
    root = FolderRoot(str(machine))
    for path in ("/a", "/self", "/c0"):
        assert root.realpath(path) == path
        assert not root.exists(path)
        with pytest.raises(OSError):
            root.read(path)
    assert root.read("/c30") == b"end"


@pytest.mark.skipif(os.geteuid() != 0, reason="device nodes need root")
def test_devices_are_not_opened(machine):
    os.mknod(machine / "null", 0o600 | 0o020000, os.makedev(1, 3))
    root = FolderRoot(str(machine))
    assert root.exists("/null")
    assert not root.is_file("/null")
    with pytest.raises(OSError, match="not a regular file"):
        root.open("/null")


def test_a_named_pipe_does_not_block(machine):
    os.mkfifo(machine / "pipe")
    root = FolderRoot(str(machine))
    with pytest.raises(OSError, match="not a regular file"):
        root.read("/pipe")
    with pytest.raises(IsADirectoryError):
        root.read("/etc")


def test_reading_is_bounded(machine):
    with (machine / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    root = FolderRoot(str(machine))
    with pytest.raises(TooLargeError):
        root.read("/sparse")
    with pytest.raises(TooLargeError):
        root.read("/etc/os-release", limit=9)
    assert root.read("/etc/os-release", limit=10) == b"ID=debian\n"


@pytest.mark.parametrize("path", ["/a\0b", "/etc/\ud800", "/" + "x" * 300, "/" + "y/" * 3000])
def test_names_that_no_file_system_takes_are_not_found(machine, path):
    root = FolderRoot(str(machine))
    assert not root.exists(path)
    assert not root.is_dir(path)
    assert not root.is_file(path)
    assert root.realpath(path).startswith("/")
    for ask in (root.read, root.open, root.stat, root.scan, root.readlink):
        with pytest.raises(OSError):
            ask(path)


def test_a_folder_runs_nothing_and_asks_nobody(machine):
    root = FolderRoot(str(machine), {"PATH": "/bin"})
    assert root.environ == {"PATH": "/bin"}
    with pytest.raises(UnobservableError):
        root.run(["true"])
    with pytest.raises(UnobservableError):
        root.ask("nvml")


def test_what_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        FolderRoot(str(tmp_path / "file"))
