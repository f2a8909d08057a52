"""Each environment has a cache of its own, the oldest go, and what cannot be read is not remembered."""

import os
from pathlib import Path

from envlock.probe.cache import FileCache
from envlock.roots.live import LiveRoot


def remember(root, prefix, path, answer):
    with FileCache(root, prefix) as cache:
        return cache.remember("kind", str(path), lambda: answer)


def test_each_environment_has_a_cache_of_its_own_and_the_oldest_go(tmp_path):
    root = LiveRoot({"XDG_CACHE_HOME": str(tmp_path)})
    about = tmp_path / "file"
    about.write_text("x")
    assert remember(root, "/a", about, 1) == remember(root, "/a/", about, 2) == 1
    assert remember(root, "/b", about, 3) == 3
    (first, _) = sorted((tmp_path / "envlock").iterdir(), key=lambda file: file.stat().st_mtime_ns)
    os.utime(first, (1, 1))
    for number in range(31):
        remember(root, f"/env{number}", about, number)
    assert not first.exists()
    assert len(list((tmp_path / "envlock").iterdir())) == 32
    assert remember(root, "/b", about, 4) == 3


def test_what_cannot_be_read_is_not_remembered(tmp_path):
    root = LiveRoot({"HOME": str(tmp_path)})

    def fail():
        raise PermissionError

    with FileCache(root, "/env") as cache:
        for _ in range(2):
            try:
                cache.remember("kind", __file__, fail)
            except PermissionError:
                continue
    assert not Path(tmp_path / ".cache").exists()


def test_a_file_rewritten_with_its_old_size_and_date_is_read_anew(tmp_path):
    root = LiveRoot({"XDG_CACHE_HOME": str(tmp_path)})
    about = tmp_path / "file"
    about.write_text("old")
    dates = (about.stat().st_atime_ns, about.stat().st_mtime_ns)
    assert remember(root, "/a", about, "old") == "old"
    about.write_text("new")
    os.utime(about, ns=dates)
    assert remember(root, "/a", about, "new") == "new"
