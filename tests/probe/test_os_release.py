"""Distributions as their os-release says, and C libraries as their files do."""

import shutil
import subprocess
from pathlib import Path

import pytest

from envlock.probe.os_release import read_os
from envlock.roots.live import LiveRoot
from tests.probe.support import write

UBUNTU = 'PRETTY_NAME="Ubuntu 22.04.4 LTS"\nNAME="Ubuntu"\nVERSION_ID="22.04"\nID=ubuntu\nID_LIKE=debian\n'
ALPINE = 'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.20.3\n'
ELF = b"\x7fELF\x02\x01\x01" + bytes(57)


needs_gcc = pytest.mark.skipif(
    shutil.which("gcc") is None, reason="libraries with symbol versions are made with gcc"
)


def library(folder: Path, name: str, *versions: str) -> bytes:
    """Make a library that defines a symbol under each of these versions."""
    lines = [
        f'__asm__(".symver f{i}, g{i}@@{version}"); void f{i}(void) {{}}'
        for i, version in enumerate(versions)
    ]
    (folder / "x.c").write_text("\n".join(lines) + "\n")
    (folder / "x.map").write_text("".join(f"{version} {{ g{i}; }};\n" for i, version in enumerate(versions)))
    command = [
        "gcc",
        "-shared",
        "-fPIC",
        "-nostdlib",
        f"-Wl,-soname,{name}",
        f"-Wl,--version-script={folder}/x.map",
    ]
    subprocess.run([*command, "-o", str(folder / "x.so"), str(folder / "x.c")], check=True, timeout=60)
    return (folder / "x.so").read_bytes()


@needs_gcc
def test_ubuntu(tmp_path: Path) -> None:
    banner = b"GNU C Library (Ubuntu GLIBC 2.35-0ubuntu3.8) stable release version 2.35.\nCopyright"
    names = ["GLIBCXX_3.4", "GLIBCXX_3.4.9", "GLIBCXX_3.4.30", "GLIBCXX_LDBL_3.4.31", "CXXABI_1.3.13"]
    root = write(
        tmp_path / "root",
        {
            "/etc/os-release": UBUNTU,
            "/lib/x86_64-linux-gnu/libc.so.6": ELF + banner,
            "/usr/lib/x86_64-linux-gnu/libstdc++.so.6": library(tmp_path, "libstdc++.so.6", *names),
        },
    )
    assert read_os(root).facts["os"] == {
        "id": "ubuntu", "version": "22.04", "libc": "glibc 2.35", "libstdcxx": "GLIBCXX_3.4.30"
    }  # fmt: skip


@needs_gcc
def test_glibc_without_its_banner_is_told_by_its_symbols(tmp_path: Path) -> None:
    content = library(tmp_path, "libc.so.6", "GLIBC_2.2.5", "GLIBC_2.17", "GLIBC_2.3.4", "GLIBC_PRIVATE")
    root = write(tmp_path / "root", {"/lib64/libc.so.6": content})
    assert read_os(root).facts["os"]["libc"] == "glibc 2.17"


def test_alpine(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "/usr/lib/os-release": ALPINE,
            "/lib/ld-musl-x86_64.so.1": ELF + b"\0musl libc (x86_64)\0" + b"1.2.5\0",
        },
    )
    assert read_os(root).facts["os"] == {"id": "alpine", "version": "3.20.3", "libc": "musl 1.2.5"}


def test_a_rolling_release_has_no_version(tmp_path: Path) -> None:
    assert read_os(write(tmp_path, {"/etc/os-release": "ID=arch\nBUILD_ID=rolling\n"})).facts["os"] == {
        "id": "arch"
    }


def test_a_libc_that_tells_nothing_is_unobserved(tmp_path: Path) -> None:
    seen = read_os(
        write(tmp_path, {"/lib64/libc.so.6": ELF, "/etc/os-release": 'ID="broken\nVERSION_ID=1\n'})
    )
    assert seen.facts["os"] == {"version": "1"}
    assert seen.unobserved == {"os.libc": "libc.so.6 tells no version"}


@pytest.mark.skipif(shutil.which("ldd") is None, reason="asks ldd for the C library's version")
def test_this_machine() -> None:
    told = subprocess.run(["ldd", "--version"], capture_output=True, text=True, check=False, timeout=20)
    if "GLIBC" not in told.stdout and "GNU libc" not in told.stdout:
        pytest.skip("not a glibc machine")
    assert read_os(LiveRoot()).facts["os"]["libc"] == "glibc " + told.stdout.splitlines()[0].split()[-1]
