"""Makes the image that image.py measures: a Debian, a venv with CUDA torch and a conda prefix, in three layers.

    python benchmarks/make_image.py LAYOUT --venv PREFIX [--conda-packages 60]

LAYOUT is the OCI layout folder to make. PREFIX is a venv of the base's Python (CPython 3.11, Debian 12); its
site-packages become /opt/venv's. The conda prefix is installed by rattler, pixi's engine, from a folder channel made
here. The last layer also removes a folder of the first: one whiteout. Needs root, debootstrap and umoci.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).parent.parent
sys.path.insert(0, str(TOP))

CONDA = "opt/conda"
VENV = "opt/venv"
REMOVED = "usr/share/doc"
"""What the last layer takes away again."""


def run(*command: str | Path) -> None:
    """Run a program; its output goes to standard error."""
    subprocess.run([str(each) for each in command], check=True, stdout=sys.stderr)


def add_debian(root: Path) -> None:
    """Put a minimal Debian with Python into a folder."""
    run("debootstrap", "--variant=minbase", "--include=python3,python3-venv", "bookworm", root)


def add_venv(root: Path, prefix: Path) -> None:
    """Make a venv of the image's own Python and give it the packages of another one."""
    run("chroot", root, "python3", "-m", "venv", "--without-pip", f"/{VENV}")
    (source,) = prefix.glob("lib/python3.11/site-packages")
    target = root / VENV / "lib/python3.11/site-packages"
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)


def add_conda(root: Path, packages: int) -> None:
    """Install a conda prefix of so many packages from a channel made for it."""
    from tests.packages_support import conda_install, conda_package, dist_info

    with tempfile.TemporaryDirectory() as name:
        channel = Path(name) / "channel"
        python = {
            "bin/python3.12": b"#!/bin/sh\n",
            "include/python3.12/patchlevel.h": b'#define PY_VERSION "3.12.4"\n',
        }
        conda_package(channel, "python", "3.12.4", "h0_0_cpython", python)
        for number in range(packages - 1):
            made = dist_info(
                f"condalib{number}", "1.0", {f"condalib{number}.py": "x = 1\n" * 500}, installer="conda"
            )
            files = {f"lib/python3.12/site-packages/{path}": content for path, content in made.items()}
            conda_package(channel, f"condalib{number}", "1.0", "py312_0", files, subdir="noarch")
        names = ["python", *(f"condalib{number}" for number in range(packages - 1))]
        made_prefix = Path(name) / "prefix"
        conda_install(str(channel), made_prefix, names)
        shutil.copytree(made_prefix, root / CONDA, symlinks=True)


def main() -> None:
    """Make the image."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("layout", type=Path)
    parser.add_argument("--venv", type=Path, required=True)
    parser.add_argument("--conda-packages", type=int, default=60)
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("debootstrap and umoci's owners of files need root")
    image = f"{options.layout}:app"
    run("umoci", "init", "--layout", options.layout)
    run("umoci", "new", "--image", image)
    with tempfile.TemporaryDirectory(dir=options.layout.parent) as name:
        bundle = Path(name) / "bundle"
        run("umoci", "unpack", "--image", image, bundle)
        root = bundle / "rootfs"
        layers = (
            lambda: add_debian(root),
            lambda: add_venv(root, options.venv),
            lambda: (add_conda(root, options.conda_packages), shutil.rmtree(root / REMOVED)),
        )
        for layer in layers:
            layer()
            run("umoci", "repack", "--refresh-bundle", "--image", image, bundle)
        settings = {"PATH": f"/{VENV}/bin:/usr/bin:/bin", "VIRTUAL_ENV": f"/{VENV}"}
        run("umoci", "config", "--image", image, *(f"--config.env={key}={settings[key]}" for key in settings))
    run("umoci", "gc", "--layout", options.layout)


if __name__ == "__main__":
    main()
