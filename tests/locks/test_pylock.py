"""pylock.toml by packaging, from what the real uv writes to broken ones."""

import builtins
import sys

import pytest

import envlock
from envlock.locks.model import LockFileError
from tests.locks.support import compare, drift, manifest, uv
from tests.packages_support import virtualenv, wheel

pytest.importorskip("packaging.pylock")

HASH = "a" * 64
LOCK = f"""
lock-version = "1.0"
created-by = "test"
requires-python = ">=3.12"
extras = ["gpu"]
dependency-groups = ["dev", "docs"]
default-groups = ["dev"]
[[packages]]
name = "numpy"
version = "1.26.4"
index = "https://pypi.org/simple"
wheels = [{{ url = "https://h/numpy-1.26.4-cp312-cp312-linux_x86_64.whl", hashes = {{ sha256 = "{HASH}" }} }}]
[[packages]]
name = "pywin32"
version = "306"
marker = "sys_platform == 'win32'"
wheels = [{{ url = "https://h/pywin32-306-py3-none-any.whl", hashes = {{ sha256 = "{HASH}" }} }}]
[[packages]]
name = "cupy"
version = "13.0"
marker = "'gpu' in extras"
wheels = [{{ url = "https://h/cupy-13.0-py3-none-any.whl", hashes = {{ sha256 = "{HASH}" }} }}]
[[packages]]
name = "pytest"
version = "8.0"
marker = "'dev' in dependency_groups"
wheels = [{{ url = "https://h/pytest-8.0-py3-none-any.whl", hashes = {{ sha256 = "{HASH}" }} }}]
[[packages]]
name = "lib"
vcs = {{ type = "git", url = "https://github.com/acme/lib", commit-id = "{"1" * 40}" }}
"""
LIB = f'{{ version = "0.1", source = "git+https://github.com/acme/lib@{"1" * 40}" }}'
GOOD = {"numpy": "1.26.4", "lib": LIB}


def test_markers_extras_and_groups(tmp_path):
    check = lambda packages, **chosen: drift(tmp_path, "pylock.toml", LOCK, manifest(packages), **chosen)  # noqa: E731
    assert check(GOOD) == []
    assert check({**GOOD, "pytest": "8.0"}) == []
    assert check({**GOOD, "pytest": "8.1"}) == [("package.pip.pytest", "version")]
    assert check(GOOD, groups=["dev"]) == [("package.pip.pytest", "removed")]
    assert check({**GOOD, "pytest": "8.0"}, groups=["docs"]) == [("package.pip.pytest", "added")]
    assert check({**GOOD, "cupy": "13.0"}) == [("package.pip.cupy", "added")]
    assert check({**GOOD, "cupy": "13.0"}, extras=["gpu"]) == []
    assert check({**GOOD, "lib": "0.1"}) == [("package.pip.lib", "origin")]


def test_what_uv_exports_and_syncs(tmp_path):
    house = tmp_path / "house"
    wheel(house, "alpha", "1.0", requires=["beta"])
    wheel(house, "beta", "1.2")
    (tmp_path / "in.txt").write_text("alpha\n")
    lock = tmp_path / "pylock.toml"
    uv(
        "pip",
        "compile",
        "--no-index",
        "--find-links",
        house,
        tmp_path / "in.txt",
        "--format",
        "pylock.toml",
        "-o",
        lock,
    )
    venv = virtualenv(tmp_path / "venv")
    uv("pip", "sync", "--no-index", lock, "--python", f"{venv}/bin/python")
    current = envlock.capture(prefix=venv)
    assert {"alpha", "beta"} <= current.package.pip.keys()
    assert drift(tmp_path, "pylock.toml", lock.read_text(), current) == []


def test_hashes_are_unobserved(tmp_path):
    result = compare(tmp_path, "pylock.toml", LOCK, manifest(GOOD))
    assert [each.address for each in result.unobserved] == ["package.pip.*.sha256"]


def test_an_older_packaging_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "packaging.pylock":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.delitem(sys.modules, "packaging.pylock", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(LockFileError, match=r"needs packaging 26\.0 or newer"):
        drift(tmp_path, "pylock.toml", LOCK, manifest(GOOD))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lock-version = 1\n", "lock-version"),
        ('lock-version = "9.0"\ncreated-by = "x"\npackages = []\n', "9.0"),
        (LOCK.replace('marker = "sys_platform', 'marker = "sys platform'), "marker"),
        (LOCK.replace('[[packages]]\nname = "lib"', '[[packages]]\nname = "Lib_"'), "not normalized"),
        ("environments = [\"sys_platform == 'win32'\"]\n" + LOCK, "made for other environments"),
        ("lock-version = \n", "pylock.toml:1: not TOML"),
    ],
)
def test_broken_files_say_what_is_wrong(tmp_path, text, message):
    with pytest.raises(LockFileError) as caught:
        drift(tmp_path, "pylock.toml", text, manifest(GOOD))
    assert "pylock.toml" in str(caught.value) and message in str(caught.value)
