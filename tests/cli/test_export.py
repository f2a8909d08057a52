"""Round trips as a user makes them: export, install anew with the real tools, and verify says fine."""

import json
import warnings
from pathlib import Path

import pytest

import envlock
from envlock.manifest.write import write as write_manifest
from tests.cli.support import EXAMPLES, run
from tests.locks.support import conda, manifest, uv
from tests.packages_support import conda_install, conda_package, dist_info, pip, virtualenv, wheel


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    folder = tmp_path_factory.mktemp("house")
    wheel(folder, "alpha", "1.0", requires=["beta>=1"])
    wheel(folder, "beta", "1.1")
    wheel(folder, "beta", "1.2")
    wheel(folder, "Gamma.Ray", "2.0+cu124")
    return folder


@pytest.fixture(scope="module")
def source(house, tmp_path_factory):
    """A venv that pip filled from a folder of wheels."""
    venv = virtualenv(tmp_path_factory.mktemp("source") / "venv")
    pip(venv, "install", "-q", "--no-index", "--find-links", house, "alpha", "beta==1.1", "gamma-ray")
    return venv


def exported(tmp_path, name, *arguments):
    path = tmp_path / name
    done = run("export", *arguments, "-o", path)
    assert done.returncode == 0, done.stderr
    return path, done.stderr


def fine(lock, prefix, *options):
    done = run("verify", lock, "--prefix", prefix, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == f"fine: matches {lock}\n"


def drifts(lock, prefix, *lines):
    done = run("verify", lock, "--prefix", prefix)
    assert done.returncode == 1, done.stdout + done.stderr
    for line in lines:
        assert line in done.stdout


@pytest.mark.parametrize("hashes", [False, True])
@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_requirements(source, house, tmp_path, installer, hashes):
    options = ("--find-links", house) if hashes else ()
    lock, told = exported(tmp_path, "requirements.txt", "requirements", "--prefix", source, *options)
    assert ("--hash=sha256:" in lock.read_text()) is hashes
    assert "local versions are not on PyPI" in told
    fresh = virtualenv(tmp_path / "venv")
    if installer == "pip":
        pip(fresh, "install", "-q", "--no-index", "--find-links", house, "-r", lock)
    else:
        uv(
            "pip",
            "install",
            "--no-index",
            "--find-links",
            house,
            "-r",
            lock,
            "--python",
            f"{fresh}/bin/python",
        )
    fine(lock, fresh)
    pip(fresh, "install", "-q", "--no-index", "--find-links", house, "beta==1.2")
    drifts(
        lock,
        fresh,
        "package.pip.beta  1.1 -> 1.2",
        f"to bring the environment to the lock: pip install -r {lock}",
    )


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_pylock(source, house, tmp_path, installer):
    pytest.importorskip("packaging.pylock")
    lock, _ = exported(tmp_path, "pylock.toml", "pylock", "--prefix", source, "--find-links", house)
    fresh = virtualenv(tmp_path / "venv")
    if installer == "pip":
        pip(fresh, "install", "-q", "--upgrade", "pip>=26.1")  # the first to read pylock.toml
        pip(fresh, "install", "-q", "--no-index", "-r", lock)
    else:
        uv("pip", "sync", "--no-index", lock, "--python", f"{fresh}/bin/python")
    fine(lock, fresh)
    pip(fresh, "uninstall", "-q", "-y", "alpha")
    drifts(lock, fresh, "package.pip.alpha  1.0")


def test_an_export_without_known_files_says_so_and_writes_nothing(source, tmp_path):
    done = run("export", "pylock", "--prefix", source, "-o", tmp_path / "pylock.toml")
    assert done.returncode == 2 and "alpha 1.0" in done.stderr and "--find-links" in done.stderr
    assert not (tmp_path / "pylock.toml").exists()


@pytest.fixture(scope="module")
def channel(tmp_path_factory):
    top = tmp_path_factory.mktemp("conda")
    for name, version, build in (("zlib", "1.3.1", "h1_0"), ("zlib", "1.3.1", "h2_1"), ("tool", "2.0", "0"),
                                 ("tool", "2.1", "0")):  # fmt: skip
        conda_package(
            top / "channel", name, version, build, {f"share/{name}.txt": f"{name} {build}\n".encode()}
        )
    files = dist_info("condalib", "3.0", {"condalib.py": "x = 1\n"}, installer="conda")
    site = {f"lib/python3.12/site-packages/{path}": content for path, content in files.items()}
    conda_package(top / "channel", "condalib", "3.0", "py312_0", site, subdir="noarch")
    # An interpreter enough for a capture: its version stands in the header.
    python = {
        "bin/python3.12": b"#!/bin/sh\n",
        "include/python3.12/patchlevel.h": b'#define PY_VERSION "3.12.4"\n',
    }
    conda_package(top / "channel", "python", "3.12.4", "h0_0_cpython", python)
    conda_install(
        str(top / "channel"), top / "prefix", ["zlib ==1.3.1 h1_0", "tool ==2.0", "condalib", "python"]
    )
    return top


def matches_of(lock, kind):
    """Return match specifications for what a lock names, by the tool that wrote the format where there is one."""
    if kind == "conda-lock":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from conda_lock.conda_lock import render_lockfile_for_platform
            from conda_lock.lockfile import parse_conda_lock_file

        lines = render_lockfile_for_platform(
            lockfile=parse_conda_lock_file(Path(lock)), include_dev_dependencies=True, extras=set(), kind="explicit",
            platform="linux-64",
        )  # fmt: skip
    else:
        lines = Path(lock).read_text().splitlines()
    from envlock.locks.model import conda_file

    found = [conda_file(line) for line in lines if "://" in line and not line.startswith("#")]
    return [f"{name} =={version} {build}" for name, version, build, _, _ in found]


@pytest.mark.parametrize("kind", ["conda-lock", "conda-explicit", "environment-yml"])
def test_conda(channel, tmp_path, kind):
    name = {
        "conda-lock": "conda-lock.yml",
        "conda-explicit": "explicit.txt",
        "environment-yml": "environment.yml",
    }[kind]
    lock, told = exported(tmp_path, name, kind, "--prefix", channel / "prefix")
    assert told == ""
    if kind == "environment-yml":
        import yaml

        specs = yaml.safe_load(lock.read_text())["dependencies"]
        assert f"file://{channel}/channel::zlib=1.3.1=h1_0" in specs
        from rattler import MatchSpec

        specs = [MatchSpec(spec.rpartition("::")[2], strict=False) for spec in specs]
    else:
        specs = matches_of(lock, kind)
    assert sorted(str(spec).split("=")[0].split()[0] for spec in specs) == [
        "condalib",
        "python",
        "tool",
        "zlib",
    ]
    fresh = conda_install(str(channel / "channel"), tmp_path / "fresh", specs)
    fine(lock, fresh)
    other = conda_install(
        str(channel / "channel"), tmp_path / "other", ["zlib ==1.3.1 h2_1", "tool ==2.1", "python"]
    )
    drifts(
        lock, other, "package.conda.zlib  1.3.1 (h1_0", "(other build)", "package.conda.tool  2.0", "condalib"
    )


def test_a_manifest_elsewhere_does_not_guess_addresses(channel, tmp_path):
    held = envlock.capture(prefix=str(channel / "prefix"))
    text = write_manifest(held).replace(str(channel / "prefix"), "/nowhere")
    (tmp_path / "env.toml").write_text(text)
    done = run("export", "conda-explicit", tmp_path / "env.toml")
    assert done.returncode == 2 and "tool 2.0" in done.stderr and "--prefix" in done.stderr
    done = run("export", "conda-explicit", tmp_path / "env.toml", "--prefix", channel / "prefix")
    assert done.returncode == 0 and f"file://{channel}/channel/linux-64/tool-2.0-0.tar.bz2#" in done.stdout
    # Records of another build of the same package say nothing about this one.
    (tmp_path / "env.toml").write_text(text.replace('build = "h1_0"', 'build = "h9_0"'))
    done = run("export", "conda-explicit", tmp_path / "env.toml", "--prefix", channel / "prefix")
    assert "zlib 1.3.1" in done.stderr and "zlib-1.3.1" not in done.stdout


def test_what_cannot_be_expressed_is_said_in_both_places(tmp_path):
    held = manifest({
        "good": "1.0", "odd": "{}", "mine": '{ version = "0.3", source = "/src/mine", editable = true }',
        "masked": '{ version = "1.0", source = "https://***/x-1.0.tar.gz" }',
        "evil": '{ version = "1.0\\nRUN rm" }',
    })  # fmt: skip
    (tmp_path / "env.toml").write_text(write_manifest(held))
    done = run("export", "requirements", tmp_path / "env.toml")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["good==1.0"]
    for said in ("odd: installed without a version", "an editable install of /src/mine", "masked 1.0: its source",
                 "evil: neither a name nor a version"):  # fmt: skip
        assert said in done.stderr and any(line.startswith("#") and said in line for line in lines)


@pytest.mark.parametrize("kind", ["requirements", "environment-yml", "dockerfile", "conda-lock", "pylock"])
def test_hostile_names_never_reach_a_line_of_their_own(tmp_path, kind):
    evil = {
        "ok": "1.0", "a b": "1", "x\\nEOF": "1", "y": '{ version = "1; rm" }', "--index-url": "1",
        "z": '{ version = "1", source = "git+https://h/z\\nREQUIREMENTS\\nRUN evil@abc" }',
    }  # fmt: skip
    held = manifest(
        evil, conda={"c\\n@EXPLICIT": conda("1", "0"), "d": conda("1 x", "0"), "e": conda("1", "0")}
    )
    (tmp_path / "env.toml").write_text(write_manifest(held))
    wheel(tmp_path / "house", "ok", "1.0")
    done = run("export", kind, tmp_path / "env.toml", "--find-links", tmp_path / "house")
    assert done.returncode == 0, done.stderr
    body = "\n".join(line for line in done.stdout.splitlines() if not line.startswith("#"))
    assert "ok" in body
    for bad in ("evil", "; rm", "--index-url", "a b", "\nEOF", "1 x"):
        assert bad not in body


def test_sbom_holds_native_libraries_and_is_valid_1_6():
    validation = pytest.importorskip("cyclonedx.validation.json")
    from cyclonedx.schema import SchemaVersion

    done = run("export", "cyclonedx", EXAMPLES / "train-h100.toml")
    assert done.returncode == 0, done.stderr
    assert validation.JsonStrictValidator(SchemaVersion.V1_6).validate_str(done.stdout) is None
    bom = json.loads(done.stdout)
    assert bom["specVersion"] == "1.6"
    by_ref = {each["bom-ref"]: each for each in bom["components"]}
    (cudnn,) = (each for each in bom["components"] if each["name"] == "cudnn")
    assert cudnn["version"] == "9.10.2.21" and cudnn["type"] == "library"
    facts = {each["name"]: each["value"] for each in cudnn["properties"]}
    assert facts["envlock:provider"] == "pip:nvidia-cudnn-cu12" and facts["envlock:path"].endswith(
        "libcudnn.so.9"
    )
    depends = {each["ref"]: each.get("dependsOn", []) for each in bom["dependencies"]}
    assert cudnn["bom-ref"] in depends["pip:nvidia-cudnn-cu12"]
    assert "pip:triton" in depends["pip:torch"] and by_ref["pip:torch"]["purl"] == "pkg:pypi/torch@2.9.1"


def test_an_sbom_names_the_prefix_of_what_lies_beside_the_environment(tmp_path):
    pytest.importorskip("cyclonedx")
    text = """schema = "envlock/1"
[package.conda]
zlib = { version = "1.3.1", build = "h1_0" }
[conda."/opt/conda"]
zlib = { version = "1.2.13", build = "h5_0", channel = "conda-forge" }
"""
    (tmp_path / "env.toml").write_text(text)
    bom = json.loads(run("export", "cyclonedx", tmp_path / "env.toml").stdout)
    held = {each["bom-ref"]: each for each in bom["components"]}
    assert held["conda:zlib"]["version"] == "1.3.1"
    beside = held["conda:/opt/conda:zlib"]
    assert beside["purl"] == "pkg:conda/zlib@1.2.13?build=h5_0&channel=conda-forge"
    assert beside["properties"] == [{"name": "envlock:prefix", "value": "/opt/conda"}]


def test_dockerfile_stanza_holds_what_installs(tmp_path, channel):
    lock, _ = exported(tmp_path, "Dockerfile", "dockerfile", "--prefix", channel / "prefix")
    text = lock.read_text()
    assert text.startswith("# syntax=docker/dockerfile:1\n")
    assert f"@EXPLICIT\nfile://{channel}/channel/noarch/condalib-3.0-py312_0.tar.bz2#" in text
    done = run("export", "dockerfile", EXAMPLES / "train-h100.toml")
    assert "# not in here: the base image" in done.stdout and "torch==2.9.1\n" in done.stdout
    assert "\nREQUIREMENTS\nRUN python -m pip install" in done.stdout


def test_a_token_in_a_record_s_address_does_not_leave_the_machine(channel, tmp_path):
    prefix = tmp_path / "prefix"
    conda_install(str(channel / "channel"), prefix, ["tool ==2.0", "python"])
    (record,) = (prefix / "conda-meta").glob("tool-*.json")
    data = json.loads(record.read_text())
    data["url"] = "https://user:hunter2@conda.corp/t/tk-12345-abcd/ours/linux-64/tool-2.0-0.tar.bz2"
    record.write_text(json.dumps(data))
    done = run("export", "conda-explicit", "--prefix", prefix)
    assert "https://conda.corp/ours/linux-64/tool-2.0-0.tar.bz2#" in done.stdout
    assert "hunter2" not in done.stdout and "tk-12345" not in done.stdout


def test_pip_and_conda_in_one_conda_lock(channel, house, tmp_path):
    text = write_manifest(manifest({"beta": "1.1"}, {"zlib": conda("1.3.1", "h1_0", "channel")}))
    (tmp_path / "env.toml").write_text(text)
    lock, told = exported(
        tmp_path, "conda-lock.yml", "conda-lock", tmp_path / "env.toml", "--prefix", channel / "prefix",
        "--find-links", house,
    )  # fmt: skip
    assert told == ""
    done = run("verify", lock, "--against", tmp_path / "env.toml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_formats_are_named_where_one_is_wrong():
    done = run("export", "poetry")
    assert done.returncode == 2 and "conda-lock" in done.stderr
