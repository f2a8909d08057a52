"""Compiles the doubles of NVML and libcuda into a folder, laid out and named as a driver lays out its own."""

import subprocess
from pathlib import Path

HERE = Path(__file__).parent


def build_nvml(folder: Path, version: str = "570.86.15", *flags: str) -> Path:
    """Put libnvidia-ml.so.<version> and its link into a folder; ``flags`` go to gcc (-DOLD)."""
    return _build("nvml.c", folder, "libnvidia-ml.so.1", f"libnvidia-ml.so.{version}", flags)


def build_libcuda(folder: Path, version: str = "570.86.15", *flags: str) -> Path:
    """Put libcuda.so.<version> and its link into a folder; ``flags`` go to gcc (-DCUDA=12080, -DSTUB)."""
    return _build("cuda.c", folder, "libcuda.so.1", f"libcuda.so.{version}", flags)


def _build(source: str, folder: Path, soname: str, name: str, flags: tuple[str, ...]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / name
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-D_GNU_SOURCE", f"-Wl,-soname,{soname}"]
    subprocess.run([*command, *flags, "-o", str(library), str(HERE / source)], check=True, timeout=60)
    (folder / soname).symlink_to(name)
    return library
