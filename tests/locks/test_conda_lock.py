"""conda-lock.yml through conda-lock's models: platforms, categories, and what is wrong with a file."""

import builtins
import sys

import pytest

from envlock.locks.model import LockFileError
from tests.locks.support import conda, drift, manifest

pytest.importorskip("conda_lock")
SHA = "a" * 64


def entry(name, version, build, platform="linux-64", category="main", manager="conda"):
    url = f"https://conda.anaconda.org/conda-forge/{platform}/{name}-{version}-{build}.conda"
    if manager == "pip":
        url = f"https://files.pythonhosted.org/packages/00/{name}-{version}-py3-none-any.whl"
    return f"""
- name: {name}
  version: "{version}"
  manager: {manager}
  platform: {platform}
  dependencies: {{}}
  url: {url}
  hash: {{ md5: {"c" * 32}, sha256: {SHA} }}
  category: {category}
  optional: {"false" if category == "main" else "true"}
"""


LOCK = (
    """version: 1
metadata:
  content_hash: { linux-64: x, osx-arm64: y }
  channels: [{ url: conda-forge, used_env_vars: [] }]
  platforms: [linux-64, osx-arm64]
  sources: [environment.yml]
package:
"""
    + entry("zlib", "1.3.1", "h1_0")
    + entry("zlib", "1.2", "h9_0", platform="osx-arm64")
    + entry("pytest", "8.0", "0", category="dev")
    + entry("pytest", "8.0", "0", category="docs")
    + entry("requests", "2.32", "", manager="pip")
)
GOOD = {"zlib": conda("1.3.1", "h1_0", sha256=SHA)}
PIP = {"requests": "2.32"}


def check(tmp_path, pip=PIP, packages=GOOD, text=LOCK, **chosen):
    return drift(tmp_path, "conda-lock.yml", text, manifest(pip, packages), **chosen)


def test_the_platform_s_own_entries_and_the_categories(tmp_path):
    assert check(tmp_path) == []
    held = {**GOOD, "pytest": conda("8.0", "0")}
    assert check(tmp_path, packages=held) == []
    assert check(tmp_path, groups=["docs"]) == [("package.conda.pytest", "removed")]
    assert check(tmp_path, packages={"zlib": conda("1.2", "h9_0")}) == [("package.conda.zlib", "version")]
    assert check(tmp_path, packages={"zlib": conda("1.3.1", "h2_0")}) == [("package.conda.zlib", "build")]


def test_pip_s_packages_and_those_beyond(tmp_path):
    wheel = "https://files.pythonhosted.org/packages/00/requests-2.32-py3-none-any.whl"
    assert check(tmp_path, pip={"requests": f'{{ version = "2.32", source = "{wheel}" }}'}) == []
    moved = '{ version = "2.32", source = "/tmp/requests-2.32-py3-none-any.whl" }'
    assert check(tmp_path, pip={"requests": moved}) == [("package.pip.requests", "origin")]
    assert check(tmp_path, pip={**PIP, "stray": "1"}) == [("package.pip.stray", "added")]
    by_conda = {**GOOD, "requests": conda("2.32", "0")}
    assert check(tmp_path, pip=None, packages=by_conda) == [
        ("package.conda.requests", "added"),
        ("package.pip.requests", "removed"),
    ]


def test_another_platform_is_refused(tmp_path):
    packages = {"zlib": conda("1.3.1", "h1_0", subdir="linux-aarch64")}
    with pytest.raises(
        LockFileError, match="holds linux-64, osx-arm64, and the environment is linux-aarch64"
    ):
        check(tmp_path, packages=packages)


def test_the_extra_is_named_where_conda_lock_is_missing(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name.startswith("conda_lock"):
            raise ImportError(name)
        return real(name, *rest, **more)

    for name in [each for each in sys.modules if each.startswith("conda_lock")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(LockFileError, match=r"pip install 'envlock-stack\[conda-lock\]'"):
        check(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LOCK.replace("version: 1\n", "version: 3\n", 1), "version 3 is not known"),
        (LOCK.replace("manager: pip", "manager: npm"), "a value of 'manager' that is not known"),
        (LOCK.replace("  url: https", "  uri: https", 1), "package.0.ur"),
        ("metadata: 1\npackage: 2\n", "version None is not known"),
        ("version: { a: 1 }\nmetadata: 1\npackage: 2\n", "is not known; 1 and 2 are"),
        ("version: 1\nmetadata: 1\npackage: 2\n", "package: Input"),
    ],
)
def test_broken_files_say_where(tmp_path, text, message):
    with pytest.raises(LockFileError) as caught:
        check(tmp_path, text=text)
    assert message in str(caught.value) and "\n" not in str(caught.value)
