"""Small real ELF files by gcc, and what the real ld.so does with them."""

import os
import shutil
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
