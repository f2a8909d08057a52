"""Environments of gigabytes for the heavy tests: ready ones that a variable names, or venvs made for the run."""

import os
import subprocess
import sys

import pytest

from tests.packages_support import clean_environ

TORCH = ("torch==2.14.1", "torchvision==0.29.1")
"""A CUDA build, as PyPI has it."""


def heavy_prefix(variable, folder, requirements):
    """Return the prefix that a variable names, or a new venv with these requirements; skips where pip cannot."""
    if os.environ.get(variable):
        return os.environ[variable]
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, env=clean_environ())
    command = [
        folder / "bin/python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-cache-dir",
        "--no-compile",
        *requirements,
    ]
    done = subprocess.run(command, env=clean_environ(), capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"pip cannot install {' '.join(requirements)}: {done.stderr.strip().splitlines()[-1:]}")
    return str(folder)
