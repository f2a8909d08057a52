"""environment.yml: match specifications, pip below them, and when the list is whole."""

import pytest

from envlock.locks.compare_installed import conda_version_matches
from envlock.locks.model import LockFileError
from tests.locks.support import compare, conda, drift, manifest

pytest.importorskip("yaml")
PYTORCH = conda("2.4.0", "py3.12_cuda12.4_0", "pytorch")


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("pytorch", None),
        ("pytorch=2.4", None),
        ("pytorch=2", None),
        ("pytorch 2.4.*", None),
        ("pytorch==2.4.0", None),
        ("pytorch=2.4.0=py3.12_cuda12.4_0", None),
        ("pytorch::pytorch>=2.1,<3", None),
        ("pytorch[version='>=2.4']", None),
        ("PyTorch 2.4.0 *cuda*", None),
        ("https://conda.anaconda.org/pytorch::pytorch", None),
        ("pytorch=2.40", "version"),
        ("pytorch 2.4", "version"),
        ("pytorch==2.4", "version"),
        ("pytorch<2.4|>2.5", "version"),
        ("pytorch=2.4.0=py3.12_cpu_0", "build"),
        ("conda-forge::pytorch", "origin"),
        ("pytorch[build='cpu']", "build"),
    ],
)
def test_specifications(tmp_path, spec, kind):
    text = f'dependencies:\n  - "{spec}"\n'
    current = manifest(conda={"pytorch": PYTORCH})
    assert drift(tmp_path, "environment.yml", text, current) == (
        [("package.conda.pytorch", kind)] if kind else []
    )


@pytest.mark.parametrize(
    ("installed", "bounds", "expected"),
    [
        ("1.20", "1.2*", True),
        ("1.20", "1.2.*", False),
        ("1.2", "1.2.*", True),
        ("9e", ">=9", None),
        ("2024a", "2024a", True),
        ("3.0.13", ">=3.0.9,<4.0a0", True),
        ("1.5", "!=1.5", False),
        ("1.5", "<1|1.5.*", True),
        ("1.1", ">=1.2,9e", False),
    ],
)
def test_conda_versions(installed, bounds, expected):
    assert conda_version_matches(installed, bounds) is expected


def test_pip_s_packages_below(tmp_path):
    text = "dependencies:\n  - python=3.12\n  - pip\n  - pip:\n      - numpy==1.26.3\n      - -r other.txt\n"
    held = {"python": conda("3.12.4", "0"), "pip": conda("24", "0")}
    result = compare(tmp_path, "environment.yml", text, manifest({"numpy": "1.26.4"}, held))
    assert [(each.address, each.kind) for each in result.drift] == [("package.pip.numpy", "version")]
    assert any("'-r other.txt' is not followed" in each.needs for each in result.unknown)


def test_beyond_is_drift_only_where_everything_is_pinned_with_its_build(tmp_path):
    current = manifest(conda={"pytorch": PYTORCH, "stray": conda("1", "0")})
    pinned = "dependencies:\n  - pytorch=2.4.0=py3.12_cuda12.4_0\n"
    assert drift(tmp_path, "environment.yml", pinned, current) == [("package.conda.stray", "added")]
    result = compare(tmp_path, "environment.yml", "dependencies:\n  - pytorch=2.4.0\n", current)
    assert result.drift == () and "stray" in result.unknown[0].needs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dependencies: 3\n", "dependencies: expected a list, got str"),
        ("dependencies:\n  - [a]\n", "dependencies: expected text, got list"),
        ("dependencies:\n  - 'a b c d e ['\n", "not a match specification"),
        ("dependencies: [\n", "environment.yml:2: not YAML"),
        ("a: &x [1]\ndependencies: *x\n", "environment.yml:2: YAML aliases are not read"),
        ("dependencies: " + "[" * 60 + "]" * 60, "nested too deeply"),
        ("dependencies:\n" + "- " * 200_000 + "a\n", "nested too deeply"),
        ("dependencies:\n  - !!python/object/apply:os.system ['true']\n", ""),
    ],
)
def test_hostile_files(tmp_path, text, message):
    with pytest.raises(LockFileError) as caught:
        drift(tmp_path, "environment.yml", text, manifest())
    assert message in str(caught.value) and len(str(caught.value)) < 400
