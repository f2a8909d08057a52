"""Which gcc, C++ compiler and nvcc a build would use, on small machines and on this one."""

import shutil
import subprocess
from pathlib import Path

import pytest

from envlock.probe.compiler import read_compiler
from envlock.roots.folder import FolderRoot
from envlock.roots.live import LiveRoot
from tests.probe.support import write

UBUNTU = {
    "/usr/bin/x86_64-linux-gnu-gcc-11": "", "/usr/bin/x86_64-linux-gnu-g++-11": "", "/usr/bin/x86_64-linux-gnu-gcc-9": "",
    "/usr/lib/gcc/x86_64-linux-gnu/11/crtbegin.o": b"\x7fELF\0GCC: (Ubuntu 11.4.0-1ubuntu1~22.04) 11.4.0\0",
    "/usr/lib/gcc/x86_64-linux-gnu/9/crtbegin.o": b"\x7fELF\0GCC: (Ubuntu 9.5.0-1ubuntu1~22.04) 9.5.0\0",
}  # fmt: skip
LINKS = {
    "/usr/bin/gcc": "x86_64-linux-gnu-gcc-11",
    "/usr/bin/g++": "x86_64-linux-gnu-g++-11",
    "/usr/bin/gcc-9": "x86_64-linux-gnu-gcc-9",
}


def test_ubuntu(tmp_path: Path) -> None:
    assert read_compiler(write(tmp_path, UBUNTU, LINKS)).facts["compiler"] == {
        "gcc": "11.4.0",
        "cxx": "g++ 11.4.0",
    }


@pytest.mark.parametrize("cc", ["gcc-9", "/usr/bin/gcc-9", "ccache gcc-9 -m64"])
def test_cc_comes_before_path(tmp_path: Path, cc: str) -> None:
    assert read_compiler(write(tmp_path, UBUNTU, LINKS, CC=cc)).facts["compiler"]["gcc"] == "9.5.0"


def test_ccache_on_path_is_looked_through(tmp_path: Path) -> None:
    links = {**LINKS, "/usr/lib/ccache/gcc": "../../bin/ccache", "/usr/lib/ccache/g++": "../../bin/ccache"}
    root = write(tmp_path, {**UBUNTU, "/usr/bin/ccache": ""}, links, PATH="/usr/lib/ccache:/usr/bin")
    assert read_compiler(root).facts["compiler"] == {"gcc": "11.4.0", "cxx": "g++ 11.4.0"}


def test_red_hats_toolset_has_its_own_prefix(tmp_path: Path) -> None:
    toolset = "/opt/rh/gcc-toolset-12/root/usr"
    comment = b"GCC: (GNU) 12.2.1 20221121 (Red Hat 12.2.1-7)\0"
    root = write(
        tmp_path,
        {f"{toolset}/bin/gcc": "", f"{toolset}/lib/gcc/x86_64-redhat-linux/12/crtbegin.o": comment},
        PATH=f"{toolset}/bin:/usr/bin",
    )
    assert read_compiler(root).facts["compiler"] == {"gcc": "12.2.1"}


def test_clang(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {"/usr/lib/llvm-14/bin/clang": "", "/usr/lib/llvm-14/lib/clang/14.0.6/include/stddef.h": ""},
        {"/usr/bin/clang++": "../lib/llvm-14/bin/clang"},
        CXX="clang++",
    )
    assert read_compiler(root).facts["compiler"] == {"cxx": "clang++ 14.0.6"}


def test_two_compilers_of_one_name_are_not_guessed(tmp_path: Path) -> None:
    files = {"/usr/bin/gcc": "", **{name: content for name, content in UBUNTU.items() if "crtbegin" in name}}
    seen = read_compiler(write(tmp_path, files))
    assert "compiler" not in seen.facts
    assert seen.unobserved == {"compiler.gcc": "/usr/bin/gcc tells no version"}


def test_nvcc_is_the_active_toolkits(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "/opt/cuda/bin/nvcc": "",
            "/opt/cuda/version.txt": "CUDA Version 10.2.89\n",
            "/usr/local/cuda-9.0/version.txt": "CUDA Version 9.0.176\n",
        },
        CUDA_PATH="/opt/cuda",
    )
    assert read_compiler(root).facts["compiler"] == {"nvcc": "10.2.89"}


def test_no_compiler_is_no_table(tmp_path: Path) -> None:
    seen = read_compiler(FolderRoot(str(tmp_path)))
    assert (seen.facts, seen.unobserved) == ({}, {})


@pytest.mark.skipif(shutil.which("gcc") is None, reason="asks gcc itself")
def test_this_machines_gcc() -> None:
    told = subprocess.run(
        ["gcc", "-dumpfullversion", "-dumpversion"], capture_output=True, text=True, check=True, timeout=20
    )
    root = LiveRoot({"PATH": "/usr/local/bin:/usr/bin:/bin"})
    assert read_compiler(root).facts["compiler"]["gcc"] == told.stdout.strip()
