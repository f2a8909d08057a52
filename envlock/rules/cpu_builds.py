"""Rules about CPU builds: does a framework that cannot use a GPU run where one is, or is meant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from envlock.manifest.versions import matches
from envlock.rules.engine import FRAMEWORK, rule
from envlock.rules.framework import Outcome, is_release
from envlock.rules.model import Evidence, Finding, Fix

if TYPE_CHECKING:
    from envlock.matrix.loader import Matrix
    from envlock.rules.model import Severity
    from envlock.rules.stack import Build, Stack

_CUDA_PACKAGES = ("cudatoolkit", "pytorch-cuda", "cuda-cudart", "cuda-runtime", "cuda-toolkit")
"""Conda packages that nobody installs who does not mean to use a GPU."""


class CpuBuild(NamedTuple):
    """A framework's build that cannot use a GPU, and how that is known."""

    label: str
    facts: tuple[tuple[str, Any], ...]
    why: str
    sure: bool = True
    fixes: tuple[Fix, ...] = ()


@rule("cpu-build-installed", layer="framework", needs=("gpu|driver.version", FRAMEWORK))
def cpu_build_installed(stack: Stack, matrix: Matrix) -> Outcome:
    """A machine with a GPU runs a CPU build of a framework.

    Shows itself as "Torch not compiled with CUDA enabled", is_available() being False with a working driver,
    or a job that is many times slower. conda falls back to a CPU build where no GPU build fits the other
    packages; PyPI's default wheels for Windows and for ARM are CPU builds.

    Fix: install the GPU build by name: the index or channel that the framework's install page gives.

    Source: PyTorch, Get Started, Start Locally (indexes by CUDA version); tensorflow/docs site/en/install/pip.md;
    jax-ml/jax docs/installation.md, CPU and NVIDIA GPU.
    """
    if stack.manifest.host.platform == "darwin":
        return
    gpu, sure = _gpu_facts(stack)
    if not gpu and not stack.partial:
        return
    builds = list(_cpu_builds(stack, matrix))
    accelerated = [name for name, each in stack.frameworks.items() if each.cuda or each.hip]
    for build in builds:
        severity: Severity = "error" if sure and build.sure else "warning" if gpu else "note"
        if accelerated and severity == "error":
            # Another framework does the work; this one often only came along as somebody's dependency.
            severity = "note"
        yield Finding(
            subject=build.facts[0][0],
            message=f"{build.label} {build.why}: it cannot use {_gpu_in_words(stack, gpu)}",
            evidence=(
                *(Evidence(address, value) for address, value in build.facts),
                *(Evidence(address, value) for address, value in gpu),
            ),
            fixes=build.fixes,
            source="PyTorch, Get Started, Start Locally; tensorflow/docs site/en/install/pip.md; "
            "jax-ml/jax docs/installation.md, CPU and NVIDIA GPU",
            severity=severity,
            rank=0 if gpu else 4,
        )


def _gpu_facts(stack: Stack) -> tuple[list[tuple[str, Any]], bool]:
    """Return what says that a GPU is to be used, and whether that is sure."""
    driver = stack.driver
    seen: list[tuple[str, Any]] = []
    if stack.manifest.host.platform == "tegra":
        seen.append(("host.platform", "tegra"))
    if stack.gpus:
        seen.append(("gpu", [gpu.name for gpu in stack.gpus]))
    for field in ("version", "kernel_module", "cuda"):
        if value := getattr(driver, field):
            seen.append((f"driver.{field}", value))
            break
    if seen:
        return seen, True
    meant: list[tuple[str, Any]] = [
        (f"package.conda.{name}", package.version)
        for name in _CUDA_PACKAGES
        if (package := stack.conda(name))
    ]
    meant += [
        (f"package.pip.{name}", package.version)
        for name, package in stack.manifest.package.pip.items()
        if re.fullmatch(r"nvidia-(?:cuda-runtime|cudnn|cublas)-cu\d+", name)
    ]
    meant += [("toolkit", [each.version]) for each in stack.manifest.toolkit if each.active][:1]
    if stack.manifest.container.visible_devices not in (None, "", "void", "none"):
        meant.append(("container.visible_devices", stack.manifest.container.visible_devices))
    return meant, False


def _gpu_in_words(stack: Stack, gpu: list[tuple[str, Any]]) -> str:
    if stack.gpus:
        return stack.gpus[0].name or "the GPU"
    if gpu and gpu[0][0].startswith("driver."):
        return f"the GPU of this machine (driver {gpu[0][1]})"
    return "a GPU"


def _cpu_builds(stack: Stack, matrix: Matrix) -> Iterator[CpuBuild]:
    from envlock.rules.advise import rebuild_fixes

    packages = dict(_cpu_packages(stack))
    yield from packages.values()
    for name in ("torch", "tensorflow", "jax", "onnxruntime", "paddle", "dgl"):
        build, framework = stack.build(name), stack.framework(name)
        if build is None or name in packages or (framework and framework.hip):
            continue
        # jaxlib's wheels hold no CUDA by themselves: a plugin brings it. Conda builds it in.
        whole = name != "jax" or ((held := stack.package("jaxlib")) is not None and held.manager == "conda")
        if build.cuda == "" and whole:
            yield CpuBuild(build.label, build.facts, "is a CPU build",
                           fixes=rebuild_fixes(stack, matrix, name))  # fmt: skip
        elif build.cuda is None:
            chosen = _conda_choice(build, stack) if name == "torch" else []
            yield from chosen or _default_wheel(build, stack, matrix)
    yield from _cpu_jaxlib(stack, matrix)
    yield from _conda_math(stack)


def _conda_math(stack: Stack) -> Iterator[CpuBuild]:
    """Recognise Anaconda's CPU builds of TensorFlow by the mathematics library that their build names."""
    for name in ("tensorflow", "tensorflow-base"):
        conda = stack.conda(name)
        if conda and stack.pip("tensorflow") is None and re.match(r"(?:mkl|eigen)_py", conda.build or ""):
            facts = ((f"package.conda.{name}", conda.build),)
            yield CpuBuild(f"{name} {conda.version or ''}".strip(), facts, "is a CPU build")
            return


def _conda_choice(build: Build, stack: Stack) -> list[CpuBuild]:
    """Read which build conda was asked for: the packages that choose between PyTorch's builds."""
    mutex, only = stack.conda("pytorch-mutex"), stack.conda("cpuonly")
    if stack.pip("torch") is not None or not (only or (mutex and mutex.build == "cpu")):
        return []
    fact = ("cpuonly", only.version) if only else ("pytorch-mutex", "cpu")
    facts = ((f"package.conda.{fact[0]}", fact[1]), *build.facts)
    return [CpuBuild(build.label, facts, f"is a CPU build ({fact[0]})")]


def _default_wheel(build: Build, stack: Stack, matrix: Matrix) -> Iterator[CpuBuild]:
    """Recognise PyPI's wheels that are CPU builds on this platform; another index marks its own with a "+"."""
    from envlock.rules.advise import rebuild_fixes

    pip, host = stack.pip(build.name), stack.manifest.host
    if pip is None or not pip.version or not is_release(pip.version) or pip.source:
        return
    if "+" in pip.version or "+" in (build.version or ""):
        return
    platform = {None: "linux", "wsl2": "linux", "tegra": "linux"}.get(host.platform, host.platform)
    arch = {"arm64": "aarch64"}.get((host.arch or "").lower(), host.arch)
    for row in matrix.rows("os", "cpu-wheel"):
        if row["package"] != build.name or row["platform"] != platform or row.get("arch", arch) != arch:
            continue
        if matches(pip.version, row["affected"]) is True:
            place = ("host.arch", host.arch) if "arch" in row else ("host.platform", host.platform)
            facts = ((f"package.pip.{build.name}", pip.version), *([place] if place[1] else []))
            on = " on ARM" if "arch" in row else " on Windows" if platform == "windows" else ""
            fixes = rebuild_fixes(stack, matrix, build.name)
            yield CpuBuild(build.label, facts, f"from PyPI is a CPU build{on}", False, fixes)


def _cpu_packages(stack: Stack) -> Iterator[tuple[str, CpuBuild]]:
    """Recognise CPU builds by the name of their package; each with the framework that it is."""
    pip = stack.manifest.package.pip
    for cpu, module, others in (
        ("tensorflow-cpu", "tensorflow", ("tensorflow", "tensorflow-gpu")),
        ("intel-tensorflow", "tensorflow", ("tensorflow", "tensorflow-gpu")),
        ("paddlepaddle", "paddle", ("paddlepaddle-gpu",)),
        ("onnxruntime", "onnxruntime", ("onnxruntime-gpu", "onnxruntime-training", "onnxruntime-directml")),
    ):
        known = stack.framework(module)
        if cpu in pip and not any(other in pip for other in others) and not (known and known.cuda):
            why = "is the package without CUDA"
            yield module, _package(cpu, others[0], module, why, stack, sure=cpu != "onnxruntime")
    tf = pip.get("tensorflow")
    before_merge = tf is not None and (matches(tf.version, "<1.15") or matches(tf.version, "==2.0.*"))
    if before_merge and "tensorflow-gpu" not in pip:
        why = "has no CUDA (tensorflow-gpu has)"
        yield "tensorflow", _package("tensorflow", "tensorflow-gpu", "tensorflow", why, stack, sure=True)


def _package(name: str, other: str, module: str, why: str, stack: Stack, *, sure: bool) -> CpuBuild:
    """Return a CPU build in a package of its own, to be replaced by the same version of another package."""
    address, held = f"package.pip.{name}", stack.manifest.package.pip[name].version
    pin = f"=={held}" if held else ""
    trial: dict[str, Any] = {address: None, f"package.pip.{other}": {"version": held}}
    if stack.framework(module):
        trial[f"framework.{module}.cuda"] = None
    fix = Fix(address, other, f"pip uninstall {name}, then pip install {other}{pin}", trial)
    return CpuBuild(f"{name} {held or ''}".strip(), ((address, held),), why, sure, (fix,))


def _cpu_jaxlib(stack: Stack, matrix: Matrix) -> Iterator[CpuBuild]:
    """Recognise a jaxlib of pip's that does not name CUDA itself, without the plugin that brings CUDA or ROCm."""
    jaxlib, told = stack.pip("jaxlib"), stack.framework("jax")
    plugged = any(name.startswith(("jax-cuda", "jax-rocm")) for name in stack.manifest.package.pip)
    if jaxlib is None or not jaxlib.version or plugged or "+cuda" in jaxlib.version or (told and told.cuda):
        return
    from envlock.rules.advise import builds_that_run

    fixes = []
    for build in builds_that_run(stack, matrix, "jax", f"=={jaxlib.version}")[:1]:
        plugin = f"package.pip.jax-cuda{build.cuda}-plugin"
        fixes = [Fix(plugin, jaxlib.version, build.install, {plugin: {"version": jaxlib.version}})]
    why = "has no CUDA plugin (jax-cuda12-plugin) beside it"
    facts = (("package.pip.jaxlib", jaxlib.version),)
    yield CpuBuild(f"jaxlib {jaxlib.version}", facts, why, False, tuple(fixes))
