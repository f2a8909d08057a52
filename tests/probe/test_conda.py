"""What conda-meta says, in real prefixes and damaged ones."""

import hashlib
import json
import os

import msgspec
import pytest

import envlock
from envlock.probe.conda import (
    read_conda,
    read_records,
    short_channel,
    verify_conda_files,
)
from envlock.probe.pip import read_pip
from envlock.probe.target import find_target, prefixes_beside
from envlock.roots.folder import FolderRoot
from envlock.roots.live import LiveRoot
from tests.packages_support import below, conda_install, conda_package, dist_info, virtualenv, write

SITE = "lib/python3.11/site-packages"


@pytest.fixture
def real(tmp_path):
    """A prefix that rattler installed from a channel of three packages."""
    channel = tmp_path / "chan"
    python = {"bin/python3.11": b"\x7fELF", "lib/python3.11/os.py": b""}
    conda_package(channel, "python", "3.11.9", "h955ad1f_0_cpython", python)
    demo = below(SITE, dist_info("demo", "1.2", {"demo.py": "x = 1\n"}, installer="conda"))
    conda_package(channel, "demo", "1.2", "py311_cuda12.4_0", demo)
    odd = below(SITE, dist_info("Odd.Name", "3.0", {"odd.py": "x = 1\n"}, installer="pip"))
    conda_package(channel, "py-odd", "3.0", "0", odd)
    prefix = conda_install(channel, tmp_path / "env", ["python", "demo", "py-odd"])
    root = LiveRoot({"CONDA_PREFIX": prefix, "PATH": "/usr/bin"})
    return channel, prefix, root, find_target(root)


def test_rattler_left_what_is_read(real):
    channel, prefix, root, target = real
    seen = read_conda(root, target)
    assert (target.kind, target.prefix) == ("conda", prefix)
    with open(f"{channel}/linux-64/demo-1.2-py311_cuda12.4_0.tar.bz2", "rb") as file:
        sha256 = hashlib.sha256(file.read()).hexdigest()
    found = seen.facts["package"]["conda"]
    assert found["demo"] == {
        "version": "1.2",
        "build": "py311_cuda12.4_0",
        "channel": "chan",
        "subdir": "linux-64",
        "sha256": sha256,
    }
    assert list(found) == ["demo", "py-odd", "python"]
    assert seen.unobserved == {}


def pip_packages(root, target):
    return read_pip(root, target).facts["package"]["pip"]


def test_what_conda_owns_is_no_pip_package_even_if_it_was_built_with_pip(real):
    _, _, root, target = real
    assert pip_packages(root, target) == {}
    records, _ = read_records(root, target.prefix)
    assert read_pip(root, target, records).facts["package"]["pip"] == {}


def test_what_pip_put_over_conda_appears_in_both(real):
    _, prefix, root, target = real
    # pip upgrades: conda's dist-info goes, its record stays.
    folder = f"{prefix}/{SITE}/demo-1.2.dist-info"
    for name in os.listdir(folder):
        os.unlink(f"{folder}/{name}")
    os.rmdir(folder)
    write(prefix, below(SITE, dist_info("demo", "1.3")))
    root = LiveRoot(root.environ)  # a new look
    assert pip_packages(root, target)["demo"]["version"] == "1.3"
    assert read_conda(root, target).facts["package"]["conda"]["demo"]["version"] == "1.2"


def test_the_same_version_reinstalled_by_pip_appears_in_both(real):
    _, prefix, root, target = real
    marker = f"{prefix}/{SITE}/demo-1.2.dist-info/INSTALLER"
    os.unlink(marker)  # the file is a hard link into the package cache
    with open(marker, "w") as file:
        file.write("pip\n")
    assert list(pip_packages(root, target)) == ["demo"]


def test_verify_names_modified_and_missing_files(real):
    _, prefix, root, target = real
    assert verify_conda_files(root, target) == {}
    for name in ("demo.py", "odd.py"):
        os.unlink(f"{prefix}/{SITE}/{name}")
    write(prefix, {f"{SITE}/demo.py": "x = 2\n"})
    assert verify_conda_files(root, target) == {
        "demo": [f"{prefix}/{SITE}/demo.py"],
        "py-odd": [f"{prefix}/{SITE}/odd.py"],
    }


def test_a_prefix_without_python_is_still_read(real):
    _, prefix, _, _ = real
    os.unlink(f"{prefix}/bin/python3.11")
    root = LiveRoot({"CONDA_PREFIX": prefix, "PATH": "/nowhere"})
    assert find_target(root) is None
    assert "demo" in read_conda(root, None).facts["package"]["conda"]


# conda sorts the keys and puts long lists between them; rattler and micromamba write other orders.
RECORD = {
    "name": "torch-like",
    "version": "2.4.0",
    "build": "py3.11_cuda12.4_0",
    "channel": "https://conda.anaconda.org/t/to-12345678-secret/pytorch/linux-64",
    "subdir": "linux-64",
    "sha256": "ab" * 32,
    "files": [f"lib/file{number}" for number in range(20_000)],
    "paths_data": {"paths": [{"_path": "x", "sha256": "cd" * 32, "subdir": "wrong"}] * 500},
    "url": "https://user:secret@host/torch.conda",
}


@pytest.mark.parametrize("layout", [{"indent": 2, "sort_keys": True}, {"indent": 4}, {"indent": "\t"}, {}])
def test_every_layout_of_a_record_is_read_alike(tmp_path, layout):
    files = {
        "e/bin/python3.11": b"\x7fELF",
        "e/lib/python3.11/os.py": "",
        "e/conda-meta/torch-like-2.4.0-py3.11_cuda12.4_0.json": json.dumps(RECORD, **layout),
    }
    root = FolderRoot(write(tmp_path, files))
    seen = read_conda(root, find_target(root, prefix="/e"))
    expected = {key: RECORD[key] for key in ("version", "build", "subdir", "sha256")}
    assert seen.facts["package"]["conda"] == {"torch-like": {**expected, "channel": "pytorch"}}
    assert "secret" not in repr(seen.facts)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": 3}', "\xff", '{\n  "name": "x",\n', "[" * 100_000])
def test_a_broken_record_costs_that_package_only(tmp_path, text):
    whole = json.dumps({**RECORD, "files": [], "name": "fine"})
    files = {
        "e/bin/python3.11": b"",
        "e/lib/python3.11/os.py": "",
        "e/conda-meta/broken-pkg-1.0-0.json": text,
        "e/conda-meta/fine-2.4.0-0.json": whole,
    }
    root = FolderRoot(write(tmp_path, files))
    seen = read_conda(root, find_target(root, prefix="/e"))
    assert list(seen.facts["package"]["conda"]) == ["fine"]
    assert seen.unobserved == {
        "package.conda.broken-pkg": "/e/conda-meta/broken-pkg-1.0-0.json cannot be read: it is no conda-meta record"
    }


def test_a_record_cannot_lead_out_of_the_prefix(tmp_path):
    paths = [
        {"_path": "../secret", "path_type": "hardlink", "sha256": "00"},
        {"_path": "/secret", "path_type": "hardlink", "sha256": "00"},
        {"_path": 3},
        "text",
    ]
    record = json.dumps({**RECORD, "files": [], "paths_data": {"paths": paths}})
    files = {"e/bin/python3": b"", "e/conda-meta/torch-like-2.4.0-0.json": record, "secret": ""}
    root = FolderRoot(write(tmp_path, files))
    assert verify_conda_files(root, find_target(root, prefix="/e")) == {}


@pytest.mark.parametrize(
    ("channel", "short"),
    [
        ("https://conda.anaconda.org/conda-forge/", "conda-forge"),
        ("https://conda.anaconda.org/conda-forge/linux-64", "conda-forge"),
        ("https://conda.anaconda.org/nvidia/label/cuda-12.4.1/linux-64", "nvidia/label/cuda-12.4.1"),
        ("https://repo.anaconda.com/pkgs/main/linux-64", "pkgs/main"),
        ("https://conda.anaconda.org/t/ab-1234-5678/private/noarch", "private"),
        ("https://user:word@artifacts.example.com/api/conda/team-conda/linux-64", "team-conda"),
        ("https://prefix.dev/robostack?token=word", "robostack"),
        ("file:///tmp/chan/", "chan"),
        ("conda-forge", "conda-forge"),
        ("pypi", "pypi"),
        ("", ""),
    ],
)
def test_channels_are_known_by_their_short_names(channel, short):
    assert short_channel(channel) == short


def test_a_venv_has_no_conda_packages(tmp_path):
    files = {"v/bin/python": b"", "v/pyvenv.cfg": "home = /e/bin\n", "e/conda-meta/x-1-0.json": "{}"}
    root = FolderRoot(write(tmp_path, files))
    assert read_conda(root, find_target(root, prefix="/v")).facts == {}


@pytest.fixture
def beside(tmp_path):
    """A venv with a numpy of its own, made by virtualenv, beside a prefix with another, installed by rattler."""
    channel = tmp_path / "chan"
    python = {"bin/python3.11": b"\x7fELF", "lib/python3.11/os.py": b""}
    conda_package(channel, "python", "3.11.9", "h955ad1f_0_cpython", python)
    for name, version in (("numpy", "1.26.4"), ("onnxruntime", "1.20.1"), ("zlib", "1.3.1")):
        files = below(SITE, dist_info(name, version, {f"{name}.py": "x = 1\n"}, installer="conda"))
        conda_package(channel, name, version, "h1_0", files)
    conda = conda_install(channel, tmp_path / "conda", ["python", "numpy", "onnxruntime", "zlib"])
    venv = virtualenv(tmp_path / "venv")
    (site,) = (tmp_path / "venv/lib").glob("python3*/site-packages")
    for name, version in (("numpy", "2.3.5"), ("onnxruntime-gpu", "1.23.0")):
        write(site, dist_info(name, version, {f"{name.partition('-')[0]}.py": "x = 1\n"}))
    return venv, conda


def captured(environ):
    return envlock.capture(LiveRoot(environ))


@pytest.mark.parametrize("how", ["active", "on PATH"])
def test_a_venv_and_the_conda_prefix_beside_it_are_both_told_and_never_mixed(beside, how):
    venv, conda = beside
    environ = {"VIRTUAL_ENV": venv, "PATH": f"{venv}/bin:/usr/bin"}
    environ |= {"CONDA_PREFIX": conda} if how == "active" else {"PATH": f"{venv}/bin:{conda}/bin:/usr/bin"}
    both = captured(environ)
    assert both.python.prefix == venv
    assert both.package.pip["numpy"].version == "2.3.5" and both.package.conda == {}
    found = both.conda[os.path.realpath(conda)]
    assert {name: package.version for name, package in found.items()} == {
        "numpy": "1.26.4",
        "onnxruntime": "1.20.1",
        "python": "3.11.9",
        "zlib": "1.3.1",
    }
    assert (found["zlib"].build, found["zlib"].channel) == ("h1_0", "chan")
    told = {finding.rule for finding in envlock.check(both).findings}
    assert not told & {"conda-pip-overlap", "module-overlap", "package-shadowed", "package-duplicated"}
    # The same two in one prefix are what these rules are about.
    mixed = msgspec.structs.replace(
        both, package=msgspec.structs.replace(both.package, conda=found), conda={}
    )
    assert "module-overlap" in {finding.rule for finding in envlock.check(mixed).findings}


def test_the_prefix_in_use_is_not_beside_itself(beside):
    _, conda = beside
    own = captured({"CONDA_PREFIX": conda, "PATH": f"{conda}/bin:/usr/bin"})
    assert "zlib" in own.package.conda and own.conda == {}


def test_prefixes_are_looked_for_where_images_have_them(tmp_path):
    record = {"conda-meta/history": ""}
    files = {
        "v/bin/python": b"",
        "v/pyvenv.cfg": "home = /e/bin\n",
        "e/bin/python3.11": b"\x7fELF",
        "e/lib/python3.11/os.py": "",
        **{f"{place}/{name}": text for place in ("e", "p", "opt/conda", "opt/app/envs/x") for name, text in record.items()},
    }  # fmt: skip
    root = FolderRoot(write(tmp_path, files), {"PATH": "/p/condabin:/p/bin:p/bin:/:/bin:/nowhere/bin"})
    (tmp_path / "opt/forge").symlink_to("conda")
    assert prefixes_beside(root, find_target(root, prefix="/v")) == ["/e", "/opt/conda", "/p"]
    assert prefixes_beside(root, None) == ["/opt/conda", "/p"]
    assert prefixes_beside(root, find_target(root, prefix="/e")) == ["/opt/conda", "/p"]


def test_a_record_beside_that_cannot_be_read_is_unobserved_under_its_prefix(tmp_path):
    files = {
        "v/bin/python": b"",
        "v/pyvenv.cfg": "home = /usr/bin\n",
        "opt/conda/conda-meta/odd-1-0.json": "{",
    }
    seen = envlock.capture(FolderRoot(write(tmp_path, files)), prefix="/v")
    assert seen.conda == {}
    assert seen.capture.unobserved["conda./opt/conda.odd"].startswith("/opt/conda/conda-meta/odd-1-0.json")
