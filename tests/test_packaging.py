"""The wheel holds what it should, and installs and works on every CPython, with the oldest dependencies too."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

VERSIONS = ("3.10", "3.11", "3.12", "3.13")


def interpreter(version):
    """Return a CPython of that version, from PATH or from pyenv; None where there is none."""
    candidates = [
        shutil.which(f"python{version}"),
        *map(str, (Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python")),
    ]
    for candidate in filter(None, candidates):
        asked = subprocess.run(
            [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
        )
        if asked.stdout.strip() == version:
            return candidate
    return None


@pytest.fixture(scope="session")
def distributions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--outdir", folder, TOP], check=True, capture_output=True)
    return {path.suffix: path for path in folder.iterdir()}


def test_the_wheel_carries_schemas_and_matrix_and_nothing_else_beside_the_package(distributions):
    names = zipfile.ZipFile(distributions[".whl"]).namelist()
    assert "envlock/schemas/manifest.schema.json" in names
    assert "envlock/matrix/cuda.toml" in names
    assert "envlock/py.typed" in names
    tops = {name.split("/")[0] for name in names}
    assert tops == {"envlock", next(top for top in tops if top.startswith("envlock_stack-"))}


def test_two_builds_are_the_same_byte_for_byte(distributions, tmp_path):
    copy = tmp_path / "copy"
    with tarfile.open(distributions[".gz"]) as archive:
        archive.extractall(copy, filter="data")
    (source,) = copy.iterdir()
    for path in source.rglob("*"):
        os.utime(path, (1_600_000_000, 1_600_000_000))
    out = tmp_path / "out"
    subprocess.run([sys.executable, "-m", "build", "--outdir", out, source], check=True, capture_output=True)
    for path in out.iterdir():
        assert path.read_bytes() == distributions[path.suffix].read_bytes(), path.name


def test_the_wheel_is_small(distributions):
    """Nobody should wait for it: no fixtures, no docs, no binaries."""
    assert distributions[".whl"].stat().st_size < 1024 * 1024
    names = zipfile.ZipFile(distributions[".whl"]).namelist()
    assert {Path(name).suffix for name in names if not name.startswith("envlock_stack-")} <= {
        ".py",
        ".toml",
        ".json",
        ".typed",
    }


def test_the_source_distribution_can_be_built_and_tested(distributions):
    with tarfile.open(distributions[".gz"]) as archive:
        names = archive.getnames()
    for part in (
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "tests/test_packaging.py",
        "schemas/manifest.schema.json",
    ):
        assert any(name.endswith(f"/{part}") for name in names), part


def lower_bounds(version):
    from packaging.requirements import Requirement

    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    for line in project["dependencies"]:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"python_version": version}):
            bound = next(each.version for each in requirement.specifier if each.operator == ">=")
            yield f"{requirement.name}=={bound}"


def environment(tmp_path, version):
    python = interpreter(version)
    if python is None:
        pytest.skip(f"CPython {version} is not on this machine")
    subprocess.run(
        [sys.executable, "-m", "virtualenv", "-q", "--python", python, tmp_path / "venv"], check=True
    )
    return tmp_path / "venv" / "bin" / "python"


def main_job(python, tmp_path):
    def run(*arguments, code=0):
        done = subprocess.run(
            [python, "-m", "envlock", *map(str, arguments)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        return done.stdout

    run("capture", "--prefix", tmp_path / "venv", "-o", "env.toml", "--reproducible")
    run("capture", "--prefix", tmp_path / "venv", "-o", "again.toml", "--reproducible")
    assert (tmp_path / "env.toml").read_text() == (tmp_path / "again.toml").read_text()
    assert 'envlock-stack = { version = "' in (tmp_path / "env.toml").read_text()
    assert run("verify", "env.toml", "--prefix", tmp_path / "venv").startswith("fine")
    run("check", TOP / "examples" / "old-driver.toml", code=1)
    run("diff", TOP / "examples" / "old-driver.toml", TOP / "examples" / "train-h100.toml", code=1)
    run("update", "env.toml", "--against", TOP / "examples" / "other-nccl.toml")
    assert "2.28.9" in (tmp_path / "env.toml").read_text()
    return run


@pytest.mark.parametrize("version", VERSIONS)
def test_newest_dependencies(distributions, tmp_path, version):
    python = environment(tmp_path, version)
    subprocess.run([python, "-m", "pip", "install", "-q", distributions[".whl"]], check=True)
    main_job(python, tmp_path)


@pytest.mark.parametrize("version", VERSIONS)
def test_oldest_dependencies(distributions, tmp_path, version):
    python = environment(tmp_path, version)
    bounds = list(lower_bounds(version))
    subprocess.run([python, "-m", "pip", "install", "-q", *bounds, distributions[".whl"]], check=True)
    main_job(python, tmp_path)
    check = subprocess.run([python, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout
