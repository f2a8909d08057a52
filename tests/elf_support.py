"""Small real ELF files by gcc, and what the real ld.so does with them."""

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

needs_gcc = pytest.mark.skipif(
    shutil.which("gcc") is None or os.uname().sysname != "Linux", reason="needs gcc and ld.so"
)


def make_library(
    path: Path,
    needs=(),
    soname: str = "",
    rpath: str = "",
    runpath: str = "",
    source: str = "",
    flags=(),
) -> Path:
    """Build a shared library; ``needs`` are files that exist already, linked by their sonames."""
    return _build(
        path,
        ["-shared", *([f"-Wl,-soname,{soname}"] if soname else [])],
        needs,
        rpath,
        runpath,
        source,
        flags,
    )


def make_program(
    path: Path, needs=(), rpath: str = "", runpath: str = "", source: str = "", flags=()
) -> Path:
    """Build a program that opens the libraries named by its arguments and prints /proc/self/maps."""
    return _build(path, [], needs, rpath, runpath, source or PROGRAM, [*flags, "-ldl"])


PROGRAM = r"""
#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (!dlopen(argv[i], RTLD_NOW)) fprintf(stderr, "%s\n", dlerror());
    char line[8192];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps)) fputs(line, stdout);
    return 0;
}
"""


def _build(path: Path, kind, needs, rpath: str, runpath: str, source: str, flags) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    arguments = ["gcc", "-x", "c", "-", "-x", "none", "-fPIC", "-o", str(path), *kind, "-Wl,--no-as-needed"]
    if rpath:
        arguments += ["-Wl,--disable-new-dtags", "-Wl,-rpath," + rpath]
    if runpath:
        arguments += ["-Wl,--enable-new-dtags", "-Wl,-rpath," + runpath]
    # --allow-shlib-undefined keeps ld from searching for what the needed libraries need themselves.
    arguments += ["-Wl,--allow-shlib-undefined", "-Wl,--unresolved-symbols=ignore-all"]
    arguments += [*(str(need) for need in needs), *flags]
    subprocess.run(arguments, input=source or "int here;", text=True, check=True, capture_output=True)
    return path


BASE = 0x400000
"""The address that the first byte of a packed file is loaded at."""
TABLES = 0x200
"""Where a packed file's tables begin, behind room for its headers."""


class Packer:
    """Lays an ELF file out by hand, as no compiler on this machine would: of any class, byte order and size."""

    def __init__(self, bits: int = 64, order: str = "<", **header: int) -> None:
        self.wide, self.order = bits == 64, order
        self.programs: list[bytes] = []
        self.header = header
        """Fields that are to say something else than what is there."""
        self._tables = b""
        self._sections = (0, 0, 0)

    def pack(self, form: str, *values: int) -> bytes:
        """Return values in the file's byte order."""
        return struct.pack(self.order + form, *values)

    def table(self, content: bytes) -> int:
        """Append bytes; return where they lie in the file."""
        at = TABLES + len(self._tables)
        self._tables += content
        return at

    def program(self, kind: int, at: int, size: int, address: int = 0) -> None:
        """Append a program header."""
        if self.wide:
            self.programs.append(self.pack("IIQQQQQQ", kind, 4, at, address, 0xBAD, size, 0xBAD, 1))
        else:
            self.programs.append(self.pack("8I", kind, at, address, 0xBAD, size, 0xBAD, 4, 1))

    def dynamic(self, *entries: tuple[int, int]) -> None:
        """Append a dynamic table and its program header."""
        content = b"".join(self.pack("QQ" if self.wide else "II", *each) for each in entries)
        self.program(2, self.table(content), len(content))

    def names(self, text: bytes) -> list[tuple[int, int]]:
        """Append a string table; return the dynamic entries that point to it."""
        return [(5, BASE + self.table(text)), (10, len(text))]

    def sections(self, *rows: tuple[int, int, int, int], names: int, first: tuple[int, int] = (0, 0)) -> None:
        """Append a section table of (name, kind, offset, size) behind a first one of (size, link); say where names are."""
        content = b"".join(
            self.pack(
                "IIQQQQIIQQ" if self.wide else "10I", name, kind, 0xF, 0xADD, at, size, link, 9, 8, 7
            ).ljust(self.header.get("section", 0))
            for name, kind, at, size, link in ((0, 0, 0, *first), *((*row, 0xBAD) for row in rows))
        )
        self._sections = (self.table(content), len(rows) + 1, names)

    def file(self) -> bytes:
        """Return the file."""
        sections_at, count, names = self._sections
        least, row, section = (64, 56, 64) if self.wide else (52, 32, 40)
        said = {"flags": 0x50005, "row": row, "count": len(self.programs), "sections_at": sections_at, "section": section,
                "section_count": count, "names": names, **self.header}  # fmt: skip
        words = "QQQ" if self.wide else "III"
        head = b"\x7fELF" + bytes([1 + self.wide, 1 + (self.order == ">"), 1]) + bytes(9)
        head += self.pack("HHI" + words + "IHHHHHH", 3, 183, 1, 0xBAD, least, said["sections_at"], said["flags"], least,
                          said["row"], said["count"], said["section"], said["section_count"], said["names"])  # fmt: skip
        rows = b"".join(each.ljust(said["row"], b"\xff") for each in self.programs)
        return (head + rows).ljust(TABLES, b"\xff") + self._tables


def really_loaded(program: Path, opened=(), environ=None, cwd=None) -> set[str]:
    """Run the program; return the libraries that ld.so mapped, links resolved."""
    result = subprocess.run(
        [str(program), *map(str, opened)],
        env={"PATH": "/usr/bin:/bin", **(environ or {})},
        cwd=cwd,
        text=True,
        check=True,
        capture_output=True,
        timeout=30,
    )
    paths = {line.split(maxsplit=5)[5] for line in result.stdout.splitlines() if line.count("/")}
    return {path for path in paths if ".so" in path and not path.endswith("ld.so.cache")}


NVIDIA = {
    "cudnn": ("cudnn", "libcudnn.so.9", "9.1.0.70"),
    "nccl": ("nccl", "libnccl.so.2", "2.20.5"),
    "cuda_runtime": ("cuda-runtime", "libcudart.so.12", "12.4.127"),
    "nvjitlink": ("nvjitlink", "libnvJitLink.so.12", "12.4.127"),
}
"""Folder of a wheel -> project, library, version: what torch 2.4 pins."""
NCCL_TEXT = 'const char text[] = "NCCL version %s";'


def make_dist(site: Path, name: str, version: str, files=(), metadata: str = "") -> Path:
    """Write a dist-info as installers do; ``files`` are paths below the site folder."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}\n")
    (folder / "INSTALLER").write_text("pip\n")
    (folder / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    return folder


def make_nvidia_wheels(site: Path, folders=tuple(NVIDIA), runpath: str = "$ORIGIN") -> dict[str, Path]:
    """Lay small nvidia-*-cu12 wheels into a site folder; return the libraries by the wheel's folder."""
    made = {}
    for folder in folders:
        project, soname, version = NVIDIA[folder]
        source = NCCL_TEXT % f"{version}+cuda12.4" if folder == "nccl" else ""
        path = f"nvidia/{folder}/lib/{soname}"
        made[folder] = make_library(site / path, soname=soname, runpath=runpath, source=source)
        files = [path]
        if folder == "cudnn":
            for part in ("graph", "ops"):
                file = f"nvidia/cudnn/lib/libcudnn_{part}.so.9"
                make_library(site / file, soname=f"libcudnn_{part}.so.9")
                files.append(file)
        make_dist(site, f"nvidia-{project}-cu12", version, files)
    return made


def make_torch(site: Path, kind: str = "runpath", wheels: bool = True, version: str = "2.4.0") -> Path:
    """Lay a torch wheel of few small libraries into a site folder, linked as the real one; return its _C module.

    ``kind`` tells whether its libraries have an rpath (from 2.5 on) or a runpath.
    """
    made = make_nvidia_wheels(site) if wheels else {}
    search = ":".join(["$ORIGIN/../../nvidia/" + folder + "/lib" for folder in NVIDIA] + ["$ORIGIN"])
    paths = {kind: search}
    lib = site / "torch/lib"
    cuda = [made[folder] for folder in ("cudnn", "nccl", "cuda_runtime")] if made else []
    source = (
        'int error(void) __asm__("_ZN3c105ErrorC2ENS_14SourceLocationESs"); int error(void) { return 1; }'
    )
    c10 = make_library(lib / "libc10.so", soname="libc10.so", source=source, **paths)
    torch_cuda = make_library(lib / "libtorch_cuda.so", [*cuda, c10], soname="libtorch_cuda.so", **paths)
    python = make_library(lib / "libtorch_python.so", [torch_cuda, c10], soname="libtorch_python.so", **paths)
    make_library(lib / "libtorch_global_deps.so", cuda[2:], soname="libtorch_global_deps.so", **paths)
    module = make_library(
        site / "torch/_C.cpython-311-x86_64-linux-gnu.so", [python], **{kind: "$ORIGIN/lib"}
    )
    (site / "torch/version.py").write_text(
        f"from typing import Optional\n\n__version__ = '{version}+cu124'\ndebug = False\n"
        "cuda: Optional[str] = '12.4'\ngit_version = 'abc'\nhip: Optional[str] = None\n"
    )
    pins = "".join(
        f'Requires-Dist: nvidia-{project}-cu12 (=={pinned}) ; platform_system == "Linux"\n'
        for project, _, pinned in NVIDIA.values()
    )
    make_dist(site, "torch", version, ["torch/version.py"], pins)
    return module
