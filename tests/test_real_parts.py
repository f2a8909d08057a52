"""The whole path on real parts: a venv with wheels, a conda prefix, two GPUs behind a real NVML interface.

Every fact is compared with an independent source: pip inspect, conda-meta, nvidia-smi's own library calls.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from envlock.manifest.read import load
from tests.cli.support import run
from tests.nvml_double.build import build_libcuda, build_nvml
from tests.packages_support import (
    below,
    clean_environ,
    conda_install,
    conda_package,
    dist_info,
    pip,
    virtualenv,
)

DRIVER = "570.124.06"


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A venv with real wheels, a conda prefix made by rattler, and a driver with two GPUs, captured each."""
    folder = tmp_path_factory.mktemp("machine")
    venv = Path(virtualenv(folder / "venv"))
    pip(
        venv,
        "install",
        "-q",
        "nvidia-cuda-runtime-cu12==12.8.90",
        "requests==2.32.3",
        "attrs",
        "tomli",
        "six",
    )
    site = "lib/python3.11/site-packages"
    channel = folder / "channel"
    conda_package(
        channel,
        "python",
        "3.11.9",
        "h955ad1f_0_cpython",
        {"bin/python3.11": b"\x7fELF", "lib/python3.11/os.py": b""},
    )
    version = "__version__ = '2.4.0'\ncuda = '12.4'\nhip = None\ngit_version = 'x'\n"
    torch = dist_info(
        "torch", "2.4.0", {"torch/version.py": version, "torch/__init__.py": ""}, installer="conda"
    )
    conda_package(channel, "pytorch", "2.4.0", "py3.11_cuda12.4_cudnn9.1.0_0", below(site, torch))
    conda_package(channel, "cuda-cudart", "12.4.127", "0", {"lib/libcudart.so.12.4.127": b"\x7fELF"})
    prefix = Path(conda_install(channel, folder / "conda", ["python", "pytorch", "cuda-cudart"]))
    build_nvml(folder / "driver", DRIVER)
    build_libcuda(folder / "driver", DRIVER)
    return folder, venv, prefix


def captured(folder, name, **env):
    environ = {
        key: value for key, value in clean_environ().items() if key not in ("VIRTUAL_ENV", "CONDA_PREFIX")
    }
    environ.update(env)
    out = folder / f"{name}.toml"
    done = subprocess.run(
        [sys.executable, "-m", "envlock", "capture", "--reproducible", "-o", out],
        env={**environ, "PYTHONPATH": str(Path(__file__).parent.parent)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return load(str(out))


def test_a_venv_is_what_pip_inspect_says(machine):
    folder, venv, _ = machine
    manifest = captured(folder, "venv", VIRTUAL_ENV=str(venv))
    said = json.loads(pip(venv, "inspect"))
    normal = {re.sub(r"[-_.]+", "-", each["metadata"]["name"]).lower(): each for each in said["installed"]}
    assert {name: package.version for name, package in manifest.package.pip.items()} == {
        name: each["metadata"]["version"] for name, each in normal.items()
    }
    assert {name: package.installer for name, package in manifest.package.pip.items()} == {
        name: each.get("installer") for name, each in normal.items()
    }
    assert manifest.python.version == said["environment"]["python_full_version"]
    assert set(manifest.requires["requests"]) == {
        "certifi>=2017.4.17",
        "charset-normalizer<4,>=2",
        "idna<4,>=2.5",
        "urllib3<3,>=1.21.1",
    }
    assert all(package.digest.startswith("sha256:") for package in manifest.package.pip.values())
    (cudart,) = [
        each
        for each in manifest.library
        if each.name == "cudart" and each.provider == "pip:nvidia-cuda-runtime-cu12"
    ]
    assert (cudart.version, cudart.soname) == ("12.8.90", "libcudart.so.12")
    assert Path(cudart.path).is_file()


def test_cudart_says_the_same_version_when_it_is_asked(machine):
    _, venv, _ = machine
    (library,) = venv.glob("lib/python3.*/site-packages/nvidia/cuda_runtime/lib/libcudart.so.12")
    ask = (
        "import ctypes, sys; v = ctypes.c_int()\n"
        "ctypes.CDLL(sys.argv[1]).cudaRuntimeGetVersion(ctypes.byref(v)); print(v.value)"
    )
    assert subprocess.check_output([sys.executable, "-c", ask, library], text=True).strip() == "12080"


def test_a_conda_prefix_is_what_conda_meta_says(machine):
    folder, _, prefix = machine
    manifest = captured(folder, "conda", CONDA_PREFIX=str(prefix))
    records = [json.loads(path.read_text()) for path in (prefix / "conda-meta").glob("*.json")]
    assert {name: (p.version, p.build, p.subdir, p.sha256) for name, p in manifest.package.conda.items()} == {
        each["name"]: (each["version"], each["build"], each["subdir"], each["sha256"]) for each in records
    }
    assert manifest.package.pip == {}
    assert manifest.framework["torch"].cuda == "12.4"
    assert manifest.framework["torch"].source == "conda"
    assert (manifest.python.version, manifest.python.prefix) == ("3.11.9", str(prefix))


def test_two_gpus_and_their_driver(machine):
    folder, venv, _ = machine
    manifest = captured(
        folder, "gpus", VIRTUAL_ENV=str(venv), LD_LIBRARY_PATH=str(folder / "driver"), DOUBLE_DRIVER=DRIVER, DOUBLE_CUDA="12080",
        DOUBLE_GPUS="NVIDIA H100 80GB HBM3,81559,9.0,0;NVIDIA H100 80GB HBM3,81559,9.0,0",
    )  # fmt: skip
    assert (manifest.driver.version, manifest.driver.cuda) == (DRIVER, "12.8")
    (gpu,) = manifest.gpu
    assert (gpu.name, gpu.compute_capability, gpu.memory_mib, gpu.count) == (
        "NVIDIA H100 80GB HBM3",
        "9.0",
        81559,
        2,
    )


@pytest.mark.parametrize("trouble", ["DOUBLE_HANG", "DOUBLE_CRASH"])
def test_a_driver_that_hangs_or_crashes_costs_its_facts_and_a_few_seconds(machine, trouble):
    folder, venv, _ = machine
    manifest = captured(
        folder, trouble, VIRTUAL_ENV=str(venv), LD_LIBRARY_PATH=str(folder / "driver"), DOUBLE_DRIVER=DRIVER,
        DOUBLE_GPUS="X,1,9.0,0", **{trouble: "nvmlInit"},
    )  # fmt: skip
    assert any(address.startswith(("driver", "gpu")) for address in manifest.capture.unobserved)
    assert "requests" in manifest.package.pip


def test_two_captures_are_byte_for_byte_the_same_and_verify_agrees(machine):
    folder, venv, _ = machine
    one = captured(folder, "one", VIRTUAL_ENV=str(venv))
    two = captured(folder, "two", VIRTUAL_ENV=str(venv))
    assert one == two
    assert (folder / "one.toml").read_bytes() == (folder / "two.toml").read_bytes()
    environ = {"VIRTUAL_ENV": str(venv)}
    assert run("verify", folder / "one.toml", env=environ).returncode == 0
    pip(venv, "install", "-q", "six==1.16.0")
    done = run("verify", folder / "one.toml", env=environ)
    assert done.returncode == 1 and "package.pip.six" in done.stdout
    assert run("update", folder / "one.toml", env=environ).returncode == 0
    assert run("verify", folder / "one.toml", env=environ).returncode == 0


def test_the_environment_that_envlock_is_installed_in_does_not_show(machine):
    folder, venv, _ = machine
    manifest = captured(folder, "own", VIRTUAL_ENV=str(venv))
    assert not {"envlock-stack", "click", "msgspec", "deepdiff"} & set(manifest.package.pip)


def test_no_host_or_user_name_is_recorded(machine):
    import socket

    folder, venv, _ = machine
    captured(
        folder,
        "names",
        VIRTUAL_ENV=str(venv),
        LD_LIBRARY_PATH="/home/ada/lib",
        HOME="/home/ada",
        USER="ada",
        LOGNAME="ada",
    )
    text = (folder / "names.toml").read_text()
    assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", text)
    assert not re.search(r"\bada\b", text)
    assert 'LD_LIBRARY_PATH = "~/lib"' in text
