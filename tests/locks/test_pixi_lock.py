"""pixi.lock of versions 4 to 6; that the samples are pixi locks is asked of rattler, pixi's own reader."""

import pytest

from envlock.locks.model import LockFileError
from tests.locks.support import conda, drift, manifest

pytest.importorskip("yaml")
SHA = "a" * 64
ZLIB = "https://conda.anaconda.org/conda-forge/linux-64/zlib-1.3.1-hb9d3cd8_2.conda"
PY = "https://conda.anaconda.org/conda-forge/noarch/tzdata-2024b-hc8b5060_0.conda"
WHEEL = "https://files.pythonhosted.org/packages/00/aa/idna-3.10-py3-none-any.whl"
LOCK = f"""version: 6
environments:
  default:
    channels:
    - url: https://conda.anaconda.org/conda-forge/
    indexes:
    - https://pypi.org/simple
    packages:
      linux-64:
      - conda: {ZLIB}
      - pypi: {WHEEL}
  test:
    channels:
    - url: https://conda.anaconda.org/conda-forge/
    packages:
      linux-64:
      - conda: {ZLIB}
      - conda: {PY}
packages:
- conda: {ZLIB}
  sha256: {SHA}
  md5: {"c" * 32}
- conda: {PY}
  sha256: {SHA}
  md5: {"c" * 32}
- pypi: {WHEEL}
  name: idna
  version: '3.10'
  sha256: {SHA}
"""
GOOD = {"zlib": conda("1.3.1", "hb9d3cd8_2", sha256=SHA)}
TZ = {"tzdata": conda("2024b", "hc8b5060_0", subdir="noarch", sha256=SHA)}


def test_rattler_reads_the_sample(tmp_path):
    rattler = pytest.importorskip("rattler")
    (tmp_path / "pixi.lock").write_text(LOCK)
    lock = rattler.LockFile.from_path(tmp_path / "pixi.lock")
    assert sorted(name for name, _ in lock.environments()) == ["default", "test"]


def test_environments(tmp_path):
    def check(pip, packages, **chosen):
        return drift(tmp_path, "pixi.lock", LOCK, manifest(pip, packages), **chosen)

    assert check({"idna": "3.10"}, GOOD) == []
    assert check({"idna": "3.1"}, GOOD) == [("package.pip.idna", "version")]
    assert check(None, {**GOOD, **TZ}, groups=["test"]) == []
    assert check({"idna": "3.10"}, {**GOOD, **TZ}, groups=["test"]) == [("package.pip.idna", "added")]
    other = {"zlib": conda("1.3.1", "hb9d3cd8_2", sha256="b" * 64)}
    assert check({"idna": "3.10"}, other) == [("package.conda.zlib", "digest")]
    moved = '{ version = "3.10", source = "git+https://github.com/kjd/idna@abc" }'
    assert check({"idna": moved}, GOOD) == [("package.pip.idna", "origin")]


def test_version_4_names_its_facts(tmp_path):
    text = f"""version: 4
environments:
  default:
    channels: [{{ url: "https://conda.anaconda.org/conda-forge/" }}]
    packages:
      linux-64:
      - conda: {ZLIB}
      - pypi: ./lib
packages:
- kind: conda
  name: zlib
  version: 1.3.1
  build: hb9d3cd8_2
  subdir: linux-64
  url: {ZLIB}
  sha256: {SHA}
- kind: pypi
  name: lib
  version: 0.10
  path: ./lib
  editable: true
"""
    current = manifest({"lib": '{ version = "0.10", source = "/src/lib", editable = true }'}, GOOD)
    assert drift(tmp_path, "pixi.lock", text, current) == []
    # Unquoted, 0.10 would be the number 0.1 to a reader of YAML's types.
    current = manifest({"lib": '{ version = "0.1.1", source = "/src/lib", editable = true }'}, GOOD)
    assert drift(tmp_path, "pixi.lock", text, current) == [("package.pip.lib", "version")]


@pytest.mark.parametrize(
    ("text", "message", "groups"),
    [
        (LOCK.replace("version: 6", "version: 99"), "version '99' is not known", []),
        (LOCK, "no group 'gpu': it has default, test", ["gpu"]),
        (LOCK, "one environment at a time", ["default", "test"]),
        (LOCK.replace("linux-64:", "osx-64:"), "default holds osx-64, and the environment is linux-64", []),
        (LOCK.replace("- conda: " + ZLIB, "- other: x", 1), "neither conda nor pypi", []),
        ("version: 6\nenvironments: [1]\npackages: []\n", "environments: expected a table, got list", []),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text, message, groups):
    with pytest.raises(LockFileError) as caught:
        drift(tmp_path, "pixi.lock", text, manifest({"idna": "3.10"}, GOOD), groups=groups)
    assert message in str(caught.value)
