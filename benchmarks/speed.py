"""Times envlock beside its peers on one environment, in one run: medians of several, whole processes.

    python benchmarks/speed.py PREFIX [--runs 9] [--syft EXE] [--json FILE]

PREFIX is a venv or conda prefix. Every command is run in turn (A B C A B C ...), so that a machine whose speed
drifts slows them all; the figure to quote is the ratio. Wall and CPU seconds and peak memory are the operating
system's own account of each finished process.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

TOP = Path(__file__).parent.parent

BARE_LOOP = """
import os, sys
for folder in sys.argv[1:]:
    for entry in os.scandir(folder):
        if entry.name.endswith(".dist-info"):
            for name in ("METADATA", "RECORD"):
                try:
                    with open(os.path.join(entry.path, name), "rb") as file:
                        file.read()
                except OSError:
                    pass
"""
"""The least that any reader of an environment does: open every METADATA and RECORD."""


NOT_OURS = ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONDONTWRITEBYTECODE")
"""Variables that would choose another environment, or keep the warm-up from compiling as pip does."""


class Run(NamedTuple):
    """One finished process."""

    wall: float
    """seconds"""
    cpu: float
    """seconds, user and system"""
    peak: float
    """MiB"""


def measure(command: list[str], env: dict[str, str]) -> Run:
    """Run a command to its end and return the system's account of it."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return Run(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def commands(prefix: Path, folder: Path, syft: str = "") -> dict[str, list[str]]:
    """Return what is measured, by name; the first peer is what the others are compared with."""
    python = str(prefix / "bin" / "python")
    ours = [sys.executable, "-m", "envlock"]
    env_toml, other = folder / "env.toml", folder / "other.toml"
    found = {
        "pip freeze": [python, "-m", "pip", "freeze"],
        "pip inspect": [python, "-m", "pip", "inspect"],
        "uv pip freeze": [str(Path(sys.executable).parent / "uv"), "pip", "freeze", "--python", python],
        "pipdeptree": [sys.executable, "-m", "pipdeptree", "--python", python],
        "bare METADATA and RECORD loop": [
            python,
            "-I",
            "-S",
            "-c",
            BARE_LOOP,
            *map(str, prefix.glob("lib/python3.*/site-packages")),
        ],
        "envlock capture": [*ours, "capture", "--prefix", str(prefix), "-o", str(env_toml)],
        "envlock check": [*ours, "check", str(env_toml)],
        "envlock diff": [*ours, "diff", str(env_toml), str(other)],
        "envlock --help": [*ours, "--help"],
    }
    if (next(iter(prefix.glob("lib/python3.*/site-packages")), prefix) / "torch").is_dir():
        found["torch collect_env"] = [python, "-m", "torch.utils.collect_env"]
    if syft:
        found["syft scan"] = [syft, "scan", f"dir:{prefix}", "-o", "json", "-q"]
    return {name: command for name, command in found.items() if is_there(command)}


def is_there(command: list[str]) -> bool:
    """Tell whether a command's program, or the module that it runs, is installed."""
    if command[:2] == [sys.executable, "-m"]:
        return importlib.util.find_spec(command[2]) is not None
    return Path(command[0]).exists()


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prefix", type=Path)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--syft", default="", help="syft's executable; left out where none is given")
    options = parser.parse_args()
    env = {key: value for key, value in os.environ.items() if key not in NOT_OURS}
    env["PYTHONPATH"] = str(TOP)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        listed = commands(options.prefix, folder, options.syft)
        subprocess.run(listed["envlock capture"], env=env, check=True)
        text = (folder / "env.toml").read_text()
        packages = text.count("version = ")
        (folder / "other.toml").write_text(text.replace('version = "1', 'version = "2'))
        runs: dict[str, list[Run]] = {each: [] for each in listed}
        for turn in range(options.runs + 1):
            for each, command in listed.items():
                measured = measure(command, env)
                if turn:  # the first is the warm-up
                    runs[each].append(measured)
    medians = {
        each: Run(*(statistics.median(column) for column in zip(*rows, strict=True)))
        for each, rows in runs.items()
    }
    base = medians["pip freeze"].wall
    print(f"{packages} versions in the manifest; medians of {options.runs} runs, warm cache")
    print(f"{'command':32} {'wall s':>8} {'cpu s':>8} {'peak MiB':>9} {'of pip freeze':>14}")
    for each, median in medians.items():
        print(f"{each:32} {median.wall:8.3f} {median.cpu:8.3f} {median.peak:9.1f} {median.wall / base:14.2f}")
    if options.json:
        options.json.write_text(
            json.dumps({each: median._asdict() for each, median in medians.items()}, indent=1)
        )


if __name__ == "__main__":
    main()
