"""conda's explicit lists: builds, channels, hashes, and the platform they are for."""

import pytest

from envlock.locks.model import LockFileError
from tests.locks.support import compare, conda, drift, manifest

SHA, OTHER, MD5 = "a" * 64, "b" * 64, "c" * 32
URL = "https://conda.anaconda.org/conda-forge/linux-64/zlib-1.3.1-hb9d3cd8_2.conda"
LOCK = f"# platform: linux-64\n@EXPLICIT\n{URL}#sha256:{SHA}\n"
GOOD = conda("1.3.1", "hb9d3cd8_2", sha256=SHA)


@pytest.mark.parametrize(
    ("installed", "kind"),
    [
        (GOOD, None),
        (conda("1.3.1", "hb9d3cd8_2", sha256=OTHER), "digest"),
        (conda("1.3.1", "h4ab18f5_1", sha256=OTHER), "build"),
        (conda("1.3.1", "hb9d3cd8_2", channel="main", sha256=SHA), "origin"),
        (conda("1.2.13", "hb9d3cd8_2"), "version"),
        (conda("1.3.1", "hb9d3cd8_2", subdir="linux-aarch64"), None),
    ],
)
def test_differences(tmp_path, installed, kind):
    current = manifest(conda={"zlib": installed})
    if "aarch64" in installed:
        with pytest.raises(
            LockFileError, match="a list for linux-64, and the environment is one of linux-aarch64"
        ):
            drift(tmp_path, "explicit.txt", LOCK, current)
        return
    assert drift(tmp_path, "explicit.txt", LOCK, current) == ([("package.conda.zlib", kind)] if kind else [])


def test_beyond_and_missing_but_pip_s_packages_are_not_its_business(tmp_path):
    current = manifest({"numpy": "1"}, {"tool": conda("1", "0")})
    assert drift(tmp_path, "explicit.txt", LOCK, current) == [
        ("package.conda.tool", "added"),
        ("package.conda.zlib", "removed"),
    ]


def test_a_hash_of_another_kind_is_unobserved(tmp_path):
    text = f"@EXPLICIT\n{URL}#{MD5}\n"
    result = compare(tmp_path, "explicit.txt", text, manifest(conda={"zlib": GOOD}))
    assert result.drift == () and [each.address for each in result.unobserved] == ["package.conda.*.sha256"]


def test_mirrors_and_tokens_leave_the_channel_what_it_is(tmp_path):
    text = LOCK.replace("https://conda.anaconda.org/", "https://u:p@mirror.corp/t/tk-1/")
    assert drift(tmp_path, "explicit.txt", text, manifest(conda={"zlib": GOOD})) == []


def test_conda_lock_s_lines_for_pip_count(tmp_path):
    text = (
        LOCK
        + f"# pip Typing_Extensions @ https://h/typing_extensions-4.0-py3-none-any.whl --hash=sha256:{SHA}\n"
    )
    held = '{ version = "4.1", source = "https://h/typing_extensions-4.1-py3-none-any.whl" }'
    current = manifest({"typing-extensions": held}, {"zlib": GOOD})
    assert drift(tmp_path, "explicit.txt", text, current) == [("package.pip.typing-extensions", "version")]


def test_a_line_that_is_no_package_is_named(tmp_path):
    with pytest.raises(
        LockFileError, match=r"explicit\.txt:3: expected the URL of a conda package, got 'zlib=1'"
    ):
        drift(tmp_path, "explicit.txt", "# x\n@EXPLICIT\nzlib=1\n", manifest())
