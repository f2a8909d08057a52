"""What envlock brings into a machine: every pin is hashed, every licence known, and its own SBOM says so."""

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.cli.support import run
from tests.packages_support import pip, virtualenv

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOP = Path(__file__).parent.parent
PINS = (TOP / ".ci/requirements.txt").read_text()
FILES = sorted((TOP / ".ci").glob("*.txt"))
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]

PERMISSIVE = re.compile(
    r"\b(MIT|BSD|Apache|ISC|PSF|Python Software Foundation|MPL-2\.0|Mozilla Public License 2\.0)\b", re.IGNORECASE
)  # fmt: skip
"""Licences that a tool under Apache-2.0 may depend on without asking its users for more."""


def runtime():
    """Return the names of what is installed because envlock needs it, itself left out."""
    waiting, found = [Requirement(line) for line in PROJECT["dependencies"]], set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        waiting += [Requirement(line) for line in metadata.requires(name) or ()]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_everything_that_the_tests_install_is_pinned_with_hashes(path):
    blocks = [block for block in re.split(r"^(?=\S)", path.read_text(), flags=re.MULTILINE) if block.strip()]
    assert blocks
    for block in blocks:
        assert re.match(r"[a-z0-9-]+==\S+", block) and "--hash=sha256:" in block, block[:80]


def test_the_pins_meet_what_the_project_asks_for():
    pinned = dict(re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", PINS, re.MULTILINE))
    for line in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate():
            held = pinned[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(held, prereleases=True), f"{line}: {held} is pinned"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_pins_name_no_index(path):
    assert not re.search(r"://|--index|--find-links|--trusted", path.read_text())


@pytest.mark.parametrize("name", sorted(runtime()))
def test_what_envlock_needs_has_a_licence_that_asks_for_nothing_more(name):
    held = metadata.metadata(name)
    said = [
        held.get("License-Expression") or "",
        held.get("License") or "",
        *(held.get_all("Classifier") or ()),
    ]
    assert PERMISSIVE.search("\n".join(line for line in said if not line.startswith("Programming"))), said


def test_envlock_s_own_sbom_is_what_is_installed(tmp_path):
    """The command of CONTRIBUTING's release section, on a venv with envlock and nothing else."""
    venv = virtualenv(tmp_path / "venv")
    pip(venv, "install", "-q", str(TOP))
    done = run("export", "cyclonedx", "--prefix", venv)
    assert done.returncode == 0, done.stderr
    components = {each["name"]: each for each in json.loads(done.stdout)["components"]}
    assert runtime() | {"envlock-stack"} <= set(components)
    listed = json.loads(pip(venv, "list", "--format", "json"))
    assert {canonicalize_name(each["name"]): each["version"] for each in listed}.items() <= {
        name: each.get("version") for name, each in components.items()
    }.items()


def test_the_pinned_requirements_can_be_resolved_for_this_python(tmp_path):
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--dry-run",
        "--quiet",
        "--no-deps",
        "--require-hashes",
    ]
    done = subprocess.run(
        [*command, "-r", TOP / ".ci/requirements.txt"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
