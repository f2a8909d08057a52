"""Where a problem stands: the line of its fact, of the table above it, or of the package in another tool's lock."""

import pytest

from envlock.reports.problems import Source

MANIFEST = """schema = "envlock/1"

[driver]
version = "570.86.15"

[[library]]
name = "cudnn"

[package.conda]
"ruamel.yaml" = { version = "0.18.6", build = "0" }
"""


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("driver.version", 4),
        ("driver.kernel_module", 3),
        ("library.cudnn", 7),
        ("package.conda.ruamel.yaml", 10),
        ("package.conda.ruamel.yaml.build", 10),
        ("package.conda.added", 9),
        ("environ.LD_LIBRARY_PATH", 1),
    ],
)
def test_a_line_of_a_manifest(address, line):
    assert Source("env.toml", MANIFEST).line(address) == line


CONDA_LOCK = """version: 1
metadata:
  platforms: [linux-64]
package:
- name: python
  version: 3.11.9
  url: https://conda.anaconda.org/conda-forge/linux-64/python-3.11.9-hb806964_0.conda
- name: numpy
  version: 1.26.4
  dependencies:
    python: '>=3.11'
"""
UV = '[[package]]\nname = "typing-extensions"\nversion = "4.12.2"\n\n[[package]]\nname = "numpy"\n'
REQUIREMENTS = (
    "# numpy\n--index-url https://x\ntyping_extensions[a]==4.12.2 \\\n    --hash=sha256:00\nnumpy==1.26.4\n"
)
EXPLICIT = (
    "@EXPLICIT\nhttps://conda.anaconda.org/conda-forge/linux-64/libgcc-ng-14.1.0-h77fa898_0.conda#md5\n"
    "https://conda.anaconda.org/conda-forge/linux-64/numpy-1.26.4-py311h64a7726_0.conda\n"
)
ENVIRONMENT = "name: train\ndependencies:\n  - python=3.11\n  - numpy\n  - pip:\n    - torch==2.9.1\n"


@pytest.mark.parametrize(
    ("text", "address", "line"),
    [
        (CONDA_LOCK, "package.conda.numpy", 8),
        (CONDA_LOCK, "package.conda.python", 5),
        (UV, "package.pip.numpy", 6),
        (UV, "package.pip.typing-extensions", 2),
        (REQUIREMENTS, "package.pip.typing-extensions", 3),
        (REQUIREMENTS, "package.pip.numpy", 5),
        (EXPLICIT, "package.conda.libgcc-ng", 2),
        (EXPLICIT, "package.conda.numpy", 3),
        (ENVIRONMENT, "package.conda.numpy", 4),
        (ENVIRONMENT, "package.pip.torch", 6),
        (ENVIRONMENT, "package.pip.beyond-the-lock", 1),
    ],
)
def test_a_line_of_another_tool_s_lock(text, address, line):
    assert Source("lock", text, foreign=True).line(address) == line


def test_a_hostile_lock_is_read_in_moderate_time():
    import time

    text = "\n".join(["- " + "a-" * 900, "/" + "a-" * 900, " " * 1900 + "x", "name" + " " * 1900] * 500)
    start = time.perf_counter()
    Source("lock", text, foreign=True).line("package.pip.numpy")
    assert time.perf_counter() - start < 5
