"""Nodes that differ: an environment and a driver's double of their own, as variables that an engine hands a node."""

import sys
from pathlib import Path

from envlock.fleet.store import entries
from tests.nvml_double.build import build_libcuda, build_nvml
from tests.packages_support import dist_info, virtualenv, write

GPU = "NVIDIA H100 80GB HBM3,81559,9.0,0"


class Stack:
    """One node's stack: a venv with one package, a driver's version, and an H100."""

    def __init__(self, folder, doubles, package, driver):
        self.prefix = virtualenv(folder)
        site = next(Path(self.prefix).glob("lib/python3.*/site-packages"))
        write(site, dist_info("alpha", package, {"alpha.py": ""}))
        self.environ = {
            "VIRTUAL_ENV": str(self.prefix),
            "LD_LIBRARY_PATH": str(doubles),
            "DOUBLE_DRIVER": driver,
            "DOUBLE_CUDA": "12040",
            "DOUBLE_GPUS": GPU,
        }


def stacks(folder):
    """Return the stack that most nodes have, and that of the odd one."""
    build_nvml(folder / "doubles")
    build_libcuda(folder / "doubles")
    most = Stack(folder / "most", folder / "doubles", "1.0", "550.90.07")
    return most, Stack(folder / "odd", folder / "doubles", "2.0", "550.54.14")


def facts(path):
    """Return of each node its driver and package, or why there is no manifest."""
    found = {}
    for entry in entries(str(path)):
        if entry.failed is not None:
            found[entry.node] = entry.failed
        else:
            manifest = entry.load()
            found[entry.node] = (manifest.driver.version, manifest.package.pip["alpha"].version)
    return found


def strange_python(folder, cases):
    """Write a ``python3`` that misbehaves on some nodes: ``cases`` are the branches of a shell's case."""
    folder.mkdir()
    script = folder / "python3"
    script.write_text(f'#!/bin/sh\n{cases}\nexec {sys.executable} "$@"\n')
    script.chmod(0o755)
    return folder
