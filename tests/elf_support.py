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
