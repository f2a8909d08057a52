"""Rules about frameworks: is this build for this machine, and do companions and extensions belong to it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from envlock.manifest.requirements import parse_requirement
from envlock.manifest.versions import dotted, major, matches, release, series, version
from envlock.rules.engine import FRAMEWORK, rule
from envlock.rules.model import Evidence, Finding, Fix, Unknown

if TYPE_CHECKING:
    from envlock.matrix.loader import Matrix
    from envlock.rules.model import Severity
    from envlock.rules.stack import Build, Installed, Stack

Outcome = Iterator["Finding | Unknown"]

TENSORFLOW = ("tensorflow", "tensorflow-gpu", "tensorflow-cpu", "tensorflow-intel", "tensorflow-macos",
              "tensorflow-directml", "intel-tensorflow", "tf-nightly")  # fmt: skip
"""Distributions that are TensorFlow, the usual one first."""

TORCH_COMPANIONS = ("torchvision", "torchaudio", "torchtext", "torchdata", "torchcodec")
"""Packages that are released along with PyTorch, each for one release of it."""

_CUDA_PACKAGES = ("cudatoolkit", "pytorch-cuda", "cuda-cudart", "cuda-runtime", "cuda-toolkit")
"""Conda packages that nobody installs who does not mean to use a GPU."""


def is_release(text: str | None) -> bool:
    """Tell whether this is an official release: a nightly, vendor or source build pairs with its own companions."""
    found = version(text)
    return found is not None and not found.is_prerelease and not found.is_devrelease


def tensorflow(stack: Stack) -> Installed | None:
    """Return TensorFlow under whichever name it was installed."""
    return next((held for name in TENSORFLOW if (held := stack.version_of(name)) and held.version), None)


# ---- CPU builds ------------------------------------------------------------------------------------------


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


# ---- companions --------------------------------------------------------------------------------------------


@rule("framework-companion-mismatch", layer="framework")
def framework_companion_mismatch(stack: Stack, matrix: Matrix) -> Outcome:
    """A package that is released along with a framework belongs to another release of it.

    Shows itself as "operator torchvision::nms does not exist", undefined symbols, "Detected that PyTorch and
    torchvision were compiled with different CUDA versions", "jaxlib version ... is newer than and incompatible
    with jax", or a missing keras attribute. Usually one of the two was upgraded alone.

    Fix: install both together, from one index, in versions that belong to each other.

    Source: the packages' own metadata (Requires-Dist); compatibility tables in their READMEs.
    """
    yield from _torch_companions(stack, matrix)
    yield from _triton(stack, matrix)
    yield from _jaxlib(stack, matrix)
    yield from _tensorflow_companions(stack, matrix)


def _torch_companions(stack: Stack, matrix: Matrix) -> Outcome:
    torch = stack.version_of("torch")
    if torch is None or not torch.version:
        for name in TORCH_COMPANIONS:
            yield from _other_cuda(name, stack.package(name), stack)
        return
    if not is_release(torch.version):
        return
    newest = matrix.rows("torch", "release")[-1]["version"]
    if release(torch.version) > release(newest):
        yield Unknown(needs=f"what belongs to torch {torch.version} (the matrix ends at torch {newest})")
    for name in TORCH_COMPANIONS:
        held = stack.version_of(name)
        found = _stated_pair(name, held, torch, stack, matrix) or _listed_pair(
            name, held, torch, stack, matrix
        )
        if found:
            yield found
        else:
            yield from _other_cuda(name, held, stack)


def _stated_pair(
    name: str, held: Installed | None, torch: Installed, stack: Stack, matrix: Matrix
) -> Finding | None:
    """Hold a companion to what it says of itself: what it was built for, or the torch that it pins."""
    framework, beside = stack.framework(name), f"and torch {torch.version} is installed"
    built = framework.built_for.get("torch") if framework else None
    if built and _differs(built, torch.version, 2):
        return _pair(name, held, torch, stack, matrix, f"is built for torch {built}, {beside}",
                     Evidence(f"framework.{name}.built_for", {"torch": built}), built, "its own build facts")  # fmt: skip
    for line in stack.manifest.requires.get(name, ()):
        wanted = parse_requirement(line)
        if wanted and wanted.name == "torch" and "==" in wanted.specifier:
            if matches(torch.version, wanted.specifier) is False:
                return _pair(name, held, torch, stack, matrix, f"is for torch{wanted.specifier}, {beside}",
                             Evidence(f"requires.{name}", line), wanted.specifier.lstrip("="),
                             f"metadata of {name} (Requires-Dist)")  # fmt: skip
            return None
    return None


def _listed_pair(
    name: str, held: Installed | None, torch: Installed, stack: Stack, matrix: Matrix
) -> Finding | None:
    if held is None or not held.version or not is_release(held.version):
        return None
    rows = [row for row in matrix.rows("torch", "companion") if row["package"] == name]
    row = _row_of(held.version, rows)
    evidence = Evidence(held.address, held.version)
    if row is not None:
        stopped = _is_last(row, matrix)
        if not stopped and any(_asks_for(line, "torch") for line in stack.manifest.requires.get(name, ())):
            return None
        wanted, beside = _torch_of(row, matrix), f"and torch {torch.version} is installed"
        if matches(torch.version, wanted) is False:
            built = wanted.lstrip("=>").removesuffix(".*")
            return _pair(
                name,
                held,
                torch,
                stack,
                matrix,
                f"is for torch{wanted}, {beside}",
                evidence,
                built,
                row["source"],
            )
        return None
    of_torch = _row_of(torch.version or "", matrix.rows("torch", "release"))
    if of_torch is not None and name in ("torchvision", "torchaudio") and name in of_torch:
        right = of_torch[name]
        if series(held.version) != series(right) and series(held.version) < series(rows[-1]["version"]):
            return _pair(name, held, torch, stack, matrix, f"is not the one for torch {torch.version}: that is {right}", evidence,
                         None, of_torch["source"], right)  # fmt: skip
    return None


def _asks_for(line: str, name: str) -> bool:
    wanted = parse_requirement(line)
    return wanted is not None and wanted.name == name


def _is_last(row: Any, matrix: Matrix) -> bool:
    """Tell whether a row's release is the last one of a project that stopped."""
    return any(
        each["package"] == row["package"] and each["state"] == "stopped" and each["last"] == row["version"]
        for each in matrix.rows("torch", "end-of-life")
    )


def _torch_of(row: Any, matrix: Matrix) -> str:
    """Return the torch that a companion's release is for: the last one of a project was built for that of its day."""
    wanted: str = row["torch"]
    return f"=={dotted(series(wanted.lstrip('>=')))}.*" if _is_last(row, matrix) else wanted


def _row_of(text: str, rows: Any) -> Any:
    """Return the row of a version: the exact one, else one that names its minor only ("0.10")."""
    numbers = release(text)
    exact = next((row for row in rows if release(row["version"]) == numbers), None)
    minors = (
        row for row in rows if len(release(row["version"])) == 2 and series(row["version"]) == numbers[:2]
    )
    return exact or next(minors, None)


def _pair(
    name: str, held: Installed | None, torch: Installed, stack: Stack, matrix: Matrix, what: str, evidence: Evidence,
    built: str | None, source: str, right: str | None = None,
) -> Finding:  # fmt: skip
    """Say that a companion and torch do not belong together; only a difference of the patch may yet work."""
    near = built is not None and series(built) == series(torch.version)
    label = f"{name} {held.version}" if held and held.version else name
    subject = held.address if held and held.address.startswith("package.") else f"framework.{name}"
    return Finding(
        subject=subject,
        message=f"{label} {what}",
        evidence=(
            evidence,
            *([Evidence(held.address, held.version)] if held and held.address != evidence.address else []),
            *_facts_of("torch", torch, stack),
        ),
        fixes=_companion_fixes(name, held, torch, built, right, stack, matrix),
        source=source,
        severity="warning" if near else "error",
    )


def _facts_of(name: str, held: Installed, stack: Stack) -> tuple[Evidence, ...]:
    """Return every address that states a project's version, for they move together."""
    facts = [Evidence(held.address, held.version)]
    framework = stack.framework(name)
    if framework and framework.version and held.address != f"framework.{name}.version":
        facts.append(Evidence(f"framework.{name}.version", framework.version))
    return tuple(facts)


def version_trial(name: str, to: str, stack: Stack) -> dict[str, Any]:
    """Return the changes that put another version of a project in place, wherever the manifest states it."""
    trial: dict[str, Any] = {}
    held = stack.package(name)
    if held:
        trial[f"{held.address}.version"] = to
    framework = stack.framework(name)
    if framework and (framework.version or held is None):
        trial[f"framework.{name}.version"] = to
    if framework and framework.built_for:
        trial[f"framework.{name}.built_for"] = {}
    if name in stack.manifest.requires:
        trial[f"requires.{name}"] = None
    return trial


def _companion_fixes(
    name: str,
    held: Installed | None,
    torch: Installed,
    built: str | None,
    right: str | None,
    stack: Stack,
    matrix: Matrix,
) -> tuple[Fix, ...]:
    fixes = []
    local = (torch.version or "").partition("+")[2]
    tail = f"+{local}" if held and held.version and "+" in held.version and local else ""
    if right is None:
        rows = [row for row in matrix.rows("torch", "companion") if row["package"] == name]
        fitting = [row["version"] for row in rows if matches(torch.version, _torch_of(row, matrix))]
        right = fitting[-1] if fitting else None
    address = held.address if held else f"framework.{name}.version"
    if right:
        to = right + tail
        fixes.append(Fix(address, to, f"install {name} {to} beside torch {torch.version}",
                         version_trial(name, to, stack)))  # fmt: skip
    if built and release(built):
        to = _public(built) + (f"+{local}" if local else "")
        fixes.append(
            Fix(torch.address, to, f"install torch {to}, which it is for", version_trial("torch", to, stack))
        )
    return tuple(fixes)


def _other_cuda(name: str, held: Installed | None, stack: Stack) -> Outcome:
    """Hold the CUDA of a companion's build to torch's."""
    torch, own = stack.build("torch"), stack.build(name)
    if torch is None or own is None or torch.cuda is None or own.cuda is None:
        return
    cuda = own.cuda
    if series(cuda) == series(torch.cuda):
        return
    # A bare major ("cu12") says nothing of the minor.
    if major(cuda) == major(torch.cuda) and not ("." in cuda and "." in torch.cuda):
        return
    grave = major(cuda) != major(torch.cuda) or name == "torchaudio"
    words = [f"CUDA {each}" if each else "the CPU" for each in (cuda, torch.cuda)]
    yield Finding(
        subject=held.address if held else f"framework.{name}",
        message=f"{own.label} is built for {words[0]} and {torch.label} for {words[1]}",
        evidence=(
            *(Evidence(address, value) for address, value in own.facts),
            *(Evidence(address, value) for address, value in torch.facts),
        ),
        fixes=_same_local(name, held, torch, stack),
        source="torchvision/extension.py and torchaudio/_extension: check of the CUDA version at import",
        severity="error" if grave else "warning",
    )


def _same_local(name: str, held: Installed | None, torch: Build, stack: Stack) -> tuple[Fix, ...]:
    local = (torch.version or "").partition("+")[2]
    if not local or held is None or not held.version:
        return ()
    to = f"{_public(held.version)}+{local}"
    trial = version_trial(name, to, stack)
    if stack.framework(name):
        trial[f"framework.{name}.cuda"] = torch.cuda
    index = f"https://download.pytorch.org/whl/{local}"
    return (Fix(held.address, to, f"pip install {name}=={to} --index-url {index}", trial),)


def _triton(stack: Stack, matrix: Matrix) -> Outcome:
    torch = stack.version_of("torch")
    if torch is None or not is_release(torch.version) or torch.manager == "conda":
        return
    asked, line = _asked("torch", ("triton", "pytorch-triton"), stack)
    row = _row_of(torch.version or "", matrix.rows("torch", "release"))
    pin = asked or (row.get("triton") if row else None)
    if not pin:
        return
    specifier = f"=={pin}" if pin[0].isdigit() else pin
    minor = series(specifier.lstrip("=~"))
    for name in ("triton", "pytorch-triton", "triton-windows"):
        held = stack.version_of(name)
        if held is None or not held.version or not is_release(held.version):
            continue
        # The releases for Windows are post releases with numbers of their own.
        wanted = f"=={dotted(minor)}.*" if name == "triton-windows" else specifier
        if matches(held.version, wanted) is not False:
            continue
        to = wanted.lstrip("=~").removesuffix(".*")
        yield Finding(
            subject=held.address,
            message=f"torch {torch.version} is for triton{specifier}, and {name} {held.version} is installed",
            evidence=(
                Evidence(held.address, held.version),
                *_facts_of("torch", torch, stack),
                *([Evidence("requires.torch", line)] if line else []),
            ),
            fixes=(Fix(held.address, wanted, f"install {name}{wanted}", version_trial(name, to, stack)),),
            source="metadata of torch (Requires-Dist)" if line or not row else row["source"],
            severity="note" if series(held.version) == minor else "warning",
        )


def _asked(owner: str, names: tuple[str, ...], stack: Stack) -> tuple[str, str]:
    """Return the range in which an installed package asks for one of these, and the line that says so; else ""."""
    for line in stack.manifest.requires.get(owner, ()):
        wanted = parse_requirement(line)
        if wanted and wanted.name in names and wanted.specifier:
            return wanted.specifier, line
    return "", ""


def _jaxlib(stack: Stack, matrix: Matrix) -> Outcome:
    jax, jaxlib = stack.version_of("jax"), stack.package("jaxlib")
    if jaxlib is None or not jaxlib.version:
        return
    if jax is not None and jax.version and release(jax.version) >= (0, 4) and jax.name != jaxlib.name:
        yield from _jax_and_jaxlib(jax, jaxlib, stack, matrix)
    for name, package in stack.manifest.package.pip.items():
        plugin = re.fullmatch(r"jax-(?:cuda|rocm)\d*-(plugin|pjrt)", name)
        if not plugin or not package.version or not is_release(jaxlib.version):
            continue
        if _base(package.version) == _base(jaxlib.version):
            continue
        to = _public(jaxlib.version)
        yield Finding(
            subject=f"package.pip.{name}",
            message=f"{name} {package.version} does not belong to jaxlib {jaxlib.version}: JAX leaves it out and "
            "runs on the CPU",
            evidence=(
                Evidence(f"package.pip.{name}", package.version),
                Evidence(jaxlib.address, jaxlib.version),
            ),
            fixes=(Fix(f"package.pip.{name}", to, f"install {name}=={to}", version_trial(name, to, stack)),),
            source="jax/_src and jax_plugins: the plugin's version must be jaxlib's",
            severity="error" if plugin[1] == "plugin" else "warning",
        )


def _base(text: str) -> tuple[int, ...]:
    numbers = list(release(text))
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _jax_and_jaxlib(jax: Installed, jaxlib: Installed, stack: Stack, matrix: Matrix) -> Outcome:
    row = _row_of(jax.version or "", matrix.rows("jax", "release"))
    pin, line = _asked("jax", ("jaxlib",), stack)
    wanted = pin or (row["jaxlib"] if row else None)
    newer = release(jaxlib.version) > release(jax.version) and is_release(jax.version)
    if not (newer or (wanted and matches(jaxlib.version, wanted) is False)):
        return
    need = wanted or f"<={jax.version}"
    target = _public(jax.version)
    yield Finding(
        subject=jaxlib.address,
        message=f"jax {jax.version} needs jaxlib {need}, and jaxlib {jaxlib.version} is installed",
        evidence=(
            Evidence(jaxlib.address, jaxlib.version),
            *_facts_of("jax", jax, stack),
            *([Evidence("requires.jax", line)] if line else []),
        ),
        fixes=(
            Fix(jaxlib.address, target, f"install jax and jaxlib {target} together",
                version_trial("jaxlib", target, stack)),
        ),
        source="metadata of jax (Requires-Dist)" if line
        else row["source"] if row else "jax/_src/lib/__init__.py: check_jaxlib_version",
    )  # fmt: skip


def _tensorflow_companions(stack: Stack, matrix: Matrix) -> Outcome:
    held = tensorflow(stack)
    if held is None or not held.version or not is_release(held.version):
        return
    row = _row_of(".".join(map(str, series(held.version))), matrix.rows("tensorflow", "release"))
    keras = stack.version_of("keras")
    if row and keras and keras.version and matches(keras.version, row["keras"]) is False:
        yield _tf_pair("keras", keras, held, row["keras"], row["source"], stack, error=True)
    for name in ("tensorboard", "tensorflow-estimator", "tensorflow-intel", "tf-keras"):
        other = stack.version_of(name)
        if (
            other is None
            or not other.version
            or other is held
            or not (2, 1) <= series(held.version) <= (2, 20)
        ):
            continue
        if series(other.version) != series(held.version):
            minor = f"=={dotted(series(held.version))}.*"
            yield _tf_pair(name, other, held, minor, f"tensorflow {dotted(series(held.version))} setup.py", stack,
                           error=name == "tensorflow-intel")  # fmt: skip
    rows = matrix.rows("tensorflow", "companion")
    for name in dict.fromkeys(each["package"] for each in rows):
        other = stack.version_of(name)
        if other is None or not other.version:
            continue
        own = [each for each in rows if each["package"] == name]
        found = _row_of(other.version, own)
        if found and matches(held.version, found["tensorflow"]) is False:
            fitting = [each["version"] for each in own if matches(held.version, each["tensorflow"])]
            # tensorflow-probability is pure Python: it says so itself and often works on.
            yield _tf_pair(name, other, held, found["tensorflow"], found["source"], stack, theirs=True,
                           error=name != "tensorflow-probability", fitting=fitting[-1:])  # fmt: skip


def _tf_pair(
    name: str, other: Installed, held: Installed, wanted: str, source: str, stack: Stack, *, error: bool,
    theirs: bool = False, fitting: Sequence[str] = (),
) -> Finding:  # fmt: skip
    right = wanted.lstrip("=>").removesuffix(".*")
    message = (
        f"{name} {other.version} is for tensorflow{wanted}, and {held.name} {held.version} is installed"
        if theirs
        else f"{held.name} {held.version} is for {name}{wanted}, and {name} {other.version} is installed"
    )
    moved, to = (held.name, right + ".0") if theirs else (name, right + ".0")
    address = held.address if theirs else other.address
    return Finding(
        subject=other.address,
        message=message,
        evidence=(Evidence(other.address, other.version), *_facts_of(held.name, held, stack)),
        fixes=(
            *(Fix(other.address, f"=={version}.*", f"install {name}=={version}.* beside {held.name} {held.version}",
                  version_trial(name, version, stack)) for version in fitting),
            Fix(address, wanted, f"install {moved}{wanted}", version_trial(moved, to, stack)),
        ),
        source=source,
        severity="error" if error else "warning",
    )  # fmt: skip


# ---- extensions --------------------------------------------------------------------------------------------


class Target(NamedTuple):
    """What a compiled extension was built for, and the fact that says so."""

    what: str
    """"torch", "cuda", "python" or the name of another project or library."""
    wanted: tuple[str, ...]
    """Versions, of which one must fit: digits without dots can be read in two ways."""
    address: str
    value: Any


@rule("extension-abi-mismatch", layer="framework")
def extension_abi_mismatch(stack: Stack, matrix: Matrix) -> Outcome:
    """A compiled extension was built for another framework, CUDA, C++ ABI or Python than this one.

    Shows itself as "undefined symbol: _ZN3c10..." or "_ZN2at..." at import, "DLL load failed", or a module that
    silently falls back to a slow path. The compiled part links against one minor release of its framework.

    Fix: the wheel that is made for this framework (its name says torch, CUDA and cxx11abi), or a build from
    source without build isolation.

    Source: PyTorch, C++ ABI notes (_GLIBCXX_USE_CXX11_ABI); the extensions' release pages.
    """
    names = dict.fromkeys([*stack.frameworks, *stack.manifest.package.pip, *stack.manifest.package.conda])
    seen: set[str] = set()
    listed = {row["package"] for row in matrix.rows("extensions", "extension")}
    for name in names:
        if name in TORCH_COMPANIONS:
            continue
        held = stack.version_of(name)
        for finding in _misfits(name, held, stack):
            if finding.subject not in seen:
                seen.add(finding.subject)
                yield finding
        if (
            name in listed
            and held
            and not any(held.address == s or s.startswith(f"framework.{name}") for s in seen)
        ):
            yield from _pinned_torch(name, held, stack, matrix)


def _misfits(name: str, held: Installed | None, stack: Stack) -> Iterator[Finding]:
    label = f"{name} {held.version}" if held and held.version else name
    for target in _targets(name, held, stack):
        have = _have(target.what, stack)
        if have is None:
            continue
        near = any(_fits(target.what, wanted, have.version) for wanted in target.wanted)
        checked = target.what == "cuda" and _CHECKS_CUDA.fullmatch(name)
        if near and not (checked and _differs(target.wanted[0], have.version, 2)):
            continue
        subject = held.address if held and held.address.startswith("package.") else f"framework.{name}"
        plain = {"cuda": "CUDA", "python": "Python"}.get(target.what, target.what)
        yield Finding(
            subject=subject,
            message=f"{label} was built for {plain} {' or '.join(target.wanted)}, and {have.label} is installed",
            evidence=(
                Evidence(target.address, target.value),
                *([Evidence(held.address, held.version)] if held and held.address != target.address else []),
                *have.evidence,
            ),
            fixes=_rebuilt(name, target, have, stack),
            source="its own build facts"
            if target.address.endswith(".built_for")
            else "PyTorch, C++ ABI and extension notes; the build's own name",
            severity="error" if not near and target.what in ("torch", "python", "cuda") else "warning",
        )
    yield from _other_abi(name, held, label, stack)


class _Have(NamedTuple):
    version: str
    label: str
    evidence: tuple[Evidence, ...]


def _have(what: str, stack: Stack) -> _Have | None:
    """Return what is installed of the thing that an extension was built for."""
    if what == "cuda":
        build = stack.build("torch")
        if build is None or not build.cuda:
            return None
        facts = tuple(Evidence(address, value) for address, value in build.facts)
        return _Have(build.cuda, f"{build.label} (CUDA {build.cuda})", facts)
    if what == "python":
        text = stack.manifest.python.version
        return _Have(text, f"Python {text}", (Evidence("python.version", text),)) if text else None
    held = stack.version_of(what)
    if held is not None and held.version:
        return _Have(held.version, f"{what} {held.version}", _facts_of(what, held, stack))
    copies = [copy for copy in stack.libraries(what) if copy.version]
    if len(copies) == 1 and copies[0].version:
        copy = copies[0]
        return _Have(copy.version, f"{what} {copy.version}", (Evidence(f"library.{what}", copy.version),))  # type: ignore[arg-type]
    return None


_LINKED_TO_TORCH = re.compile(
    r"torch[-_](scatter|sparse|cluster|spline[-_]conv)|pyg[-_]lib|mmcv([-_](full|lite))?|detectron2|pytorch3d|apex"
    r"|flash[-_]attn(-\d)?|xformers|vllm|fastseq|causal[-_]conv1d|mamba[-_]ssm|transformer[-_]engine|nvdiffrast"
)
"""Extensions that link against PyTorch's libraries, whatever else is known of how they were built."""

_CHECKS_CUDA = re.compile(r"torch[-_](scatter|sparse|cluster|spline[-_]conv)|pyg[-_]lib")
"""Extensions that refuse at import a torch of another CUDA; their releases of 2020 and 2021 another minor, too."""


def _targets(name: str, held: Installed | None, stack: Stack) -> Iterator[Target]:
    framework = stack.framework(name)
    told = framework.built_for if framework else {}
    for what, wanted in told.items():
        if wanted and what != "numpy":
            yield Target(what, (wanted,), f"framework.{name}.built_for", {what: wanted})
    texts = [(held.address, held.version, held.build)] if held else []
    if framework and framework.version:
        texts.append((f"framework.{name}.version", framework.version, None))
    for address, text, build in texts:
        local = (text or "").partition("+")[2]
        for what, wanteds in _spelled(local, build or "").items():
            if what not in told and not (what == "cuda" and framework and framework.cuda):
                yield Target(what, wanteds, address, text if local else build)
    if (
        framework
        and framework.cuda
        and (
            _LINKED_TO_TORCH.fullmatch(name)
            or "torch" in {**told, **_spelled((framework.version or "").partition("+")[2], "")}
        )
    ):
        yield Target("cuda", (framework.cuda,), f"framework.{name}.cuda", framework.cuda)


def _spelled(local: str, build: str) -> dict[str, tuple[str, ...]]:
    """Read what a wheel's local version or a conda build says: "cu12torch2.6", "pt24cu121", "cu113_pyt1100"."""
    found: dict[str, tuple[str, ...]] = {}
    torch = re.search(r"(?:torch|pt)(\d+\.\d+(?:\.\d+)?|\d{2,3})(?=$|[^\d.])", local) or re.search(
        r"(?:pyt(?:orch)?|torch)_?(\d+\.\d+(?:\.\d+)?|\d{3,4})(?=$|[^\d.])", build
    )
    if torch:
        found["torch"] = readings(torch[1])
        cuda = re.search(r"cu(\d{2,3})(?=$|[^\d])", local or build)
        if cuda:
            digits = cuda[1]
            found["cuda"] = (digits if len(digits) == 2 else f"{digits[:2]}.{digits[2]}",)
    return found


def readings(digits: str) -> tuple[str, ...]:
    """Return how a version without dots can be read: "26" -> 2.6, "1100" -> 1.10.0, "210" -> 2.10 or 2.1.0."""
    if "." in digits:
        return (digits,)
    head, rest = digits[0], digits[1:]
    splits = [f"{head}.{rest[:place]}" + (f".{rest[place:]}" if rest[place:] else "") for place in (1, 2)]
    plain = [
        text for text in dict.fromkeys(splits) if not re.search(r"\.0\d", text) and release(text)[1] <= 30
    ]
    return tuple(plain) or (f"{head}.{rest}",)


def _differs(wanted: str, have: str | None, most: int) -> bool:
    """Tell whether versions differ in the parts that both have, of the first ``most``."""
    one, two = release(wanted)[:most], release(have)[:most]
    size = min(len(one), len(two))
    return bool(size) and one[:size] != two[:size]


def _fits(what: str, wanted: str, have: str) -> bool:
    if what == "torch":
        return not is_release(have) or not _differs(wanted, have, 2)
    if what == "cuda":
        return not _differs(wanted, have, 1)
    if what == "python":
        tag = re.fullmatch(r"(?:cp|py)?(\d)(\d{1,2})t?", wanted)
        return not _differs(f"{tag[1]}.{tag[2]}" if tag else wanted, have, 2)
    return not _differs(wanted, have, 4)


def _rebuilt(name: str, target: Target, have: _Have, stack: Stack) -> tuple[Fix, ...]:
    """Offer what the extension was built for, where that is one release, and a build of it for what is there."""
    fixes = []
    if target.what not in ("cuda", "python") and len(target.wanted) == 1:
        to = target.wanted[0] if len(release(target.wanted[0])) > 2 else f"{target.wanted[0]}.0"
        address = have.evidence[0].address
        if address.startswith(("package.", "framework.")):
            fixes.append(Fix(address, target.wanted[0], f"install {target.what} {target.wanted[0]}",
                             version_trial(target.what, to, stack)))  # fmt: skip
    message = f"install a build of {name} for {have.label}, or build it against that"
    fixes.append(Fix(target.address, have.version, message, _another_build(name, stack)))
    return tuple(fixes)


def _another_build(name: str, stack: Stack) -> dict[str, Any]:
    """Return the changes that leave of an extension its version, and nothing that says how it was built."""
    trial: dict[str, Any] = {}
    package, framework = stack.package(name), stack.framework(name)
    if package and "+" in (package.version or ""):
        trial[f"{package.address}.version"] = _public(package.version)
    if package and package.build:
        trial[f"{package.address}.build"] = None
    if framework and framework.version:
        trial[f"framework.{name}.version"] = _public(framework.version)
    if framework:
        trial |= {f"framework.{name}.built_for": {}, f"framework.{name}.cuda": None,
                  f"framework.{name}.cxx11_abi": None}  # fmt: skip
    return trial


def _public(text: str | None) -> str:
    """Return a version without its local label."""
    return (text or "").partition("+")[0]


def _other_abi(name: str, held: Installed | None, label: str, stack: Stack) -> Iterator[Finding]:
    """Hold the C++ ABI of an extension to torch's."""
    framework, torch = stack.framework(name), stack.framework("torch")
    abi, address = (framework.cxx11_abi, f"framework.{name}.cxx11_abi") if framework else (None, "")
    value: Any = abi
    if abi is None and held and (said := re.search(r"cxx11abi(true|false)", (held.version or "").lower())):
        abi, address, value = said[1] == "true", held.address, held.version
    ours = torch.cxx11_abi if torch else None
    if abi is None or ours is None or abi == ours:
        return
    words = {True: "the C++11 ABI", False: "the old C++ ABI"}
    version_of_torch = stack.version_of("torch")
    message = f"install the wheel of {name} that is marked cxx11abi{str(ours).upper()}"
    yield Finding(
        subject=held.address if held and held.address.startswith("package.") else f"framework.{name}",
        message=f"{label} was compiled with {words[abi]} and torch with {words[ours]}",
        evidence=(
            Evidence(address, value),
            *([Evidence(held.address, held.version)] if held and held.address != address else []),
            Evidence("framework.torch.cxx11_abi", ours),
            *(_facts_of("torch", version_of_torch, stack) if version_of_torch else ()),
        ),
        fixes=(Fix(address, str(ours).lower(), message, _another_build(name, stack)),),
        source="GCC, Dual ABI (_GLIBCXX_USE_CXX11_ABI); PyTorch 2.6 release notes",
    )


def _pinned_torch(name: str, held: Installed, stack: Stack, matrix: Matrix) -> Outcome:
    """Hold an extension to the torch that its release was built for: its own metadata, else the table."""
    torch = stack.version_of("torch")
    if torch is None or not is_release(torch.version) or not held.version:
        return
    lines = [
        (wanted.specifier, line)
        for line in stack.manifest.requires.get(name, ())
        if (wanted := parse_requirement(line)) and wanted.name == "torch"
    ]
    rows = [row for row in matrix.rows("extensions", "extension") if row["package"] == name]
    row = next((row for row in rows if version(row["version"]) == version(_public(held.version))), None)
    if lines:
        specifier, source, where = lines[0][0], f"metadata of {name} (Requires-Dist)", f"requires.{name}"
    elif row is not None and "torch" in row:
        specifier, source, where = row["torch"], row["source"], held.address
    else:
        return
    pinned = "==" in specifier
    if specifier and matches(torch.version, specifier) is False:
        near = pinned and series(specifier.lstrip("=")) == series(torch.version)
        to = specifier.lstrip("=>~").partition(",")[0].removesuffix(".*")
        yield Finding(
            subject=held.address,
            message=f"{name} {held.version} is built for torch{specifier}, and torch {torch.version} is installed",
            evidence=(
                Evidence(held.address, held.version),
                *([Evidence(where, lines[0][1])] if lines else []),
                *_facts_of("torch", torch, stack),
            ),
            fixes=(
                Fix(torch.address, specifier, f"install torch{specifier}", version_trial("torch", to, stack)),
                *_fitting_release(name, held, torch, rows, stack),
            ),
            source=source,
            severity="warning" if near or not pinned else "error",
        )
        return
    wheels = row.get("torch_builds", ()) if row is not None else ()
    if row is not None and wheels and stack.partial and dotted(series(torch.version)) not in wheels:
        known = ", ".join(wheels)
        yield Finding(
            subject=held.address,
            message=f"{name} {held.version} has wheels for torch {known} only: beside torch {torch.version} it must "
            "have been compiled here",
            evidence=(Evidence(held.address, held.version), *_facts_of("torch", torch, stack)),
            source=row["source"],
            severity="note",
            rank=3,
        )


def _fitting_release(
    name: str, held: Installed, torch: Installed, rows: list[Any], stack: Stack
) -> tuple[Fix, ...]:
    fitting = [row["version"] for row in rows if "torch" in row and matches(torch.version, row["torch"])]
    if not fitting:
        return ()
    to = fitting[-1]
    return (
        Fix(
            held.address,
            to,
            f"install {name} {to} beside torch {torch.version}",
            version_trial(name, to, stack),
        ),
    )


# ---- Python --------------------------------------------------------------------------------------------------


@rule("framework-python-unsupported", layer="framework", needs=("python.version|python.abi", FRAMEWORK))
def framework_python_unsupported(stack: Stack, matrix: Matrix) -> Outcome:
    """A framework's release has no build for this Python.

    Shows itself as "No matching distribution found", a build from source that fails, or an import error after
    a forced installation.

    Fix: a Python in the range, or a release of the framework that is built for this one.

    Source: the wheels' tags and metadata (Requires-Python) of each release.
    """
    python = stack.manifest.python.version
    if not python or len(release(python)) < 2:
        return
    for name, held, specifier, source, sure in _python_ranges(stack, matrix):
        if matches(python, specifier) is not False:
            continue
        to = _nearest(python, specifier)
        yield Finding(
            subject=held.address,
            message=f"{name} {held.version} is built for Python {specifier}, and this is Python {python}",
            evidence=(Evidence(held.address, held.version), Evidence("python.version", python)),
            fixes=(
                Fix(
                    "python.version",
                    specifier,
                    f"use Python {to}",
                    {"python.version": to, "python.abi": None},
                ),
            ),
            source=source,
            severity="error" if sure else "warning",
        )


def _nearest(python: str, specifier: str) -> str:
    """Return the minor of Python in a range that is nearest to one outside it: ">=3.8,<3.12" -> "3.8" or "3.11"."""
    bounds = [release(bound) for bound in re.findall(r"\d+\.\d+", specifier)]
    if release(python) < bounds[0]:
        return dotted(bounds[0])
    return f"{bounds[-1][0]}.{bounds[-1][1] - 1}"


def _python_ranges(stack: Stack, matrix: Matrix) -> Iterator[tuple[str, Installed, str, str, bool]]:
    cupy = next((held for name, held in stack.packages.items() if re.match(r"cupy(-cuda|$)", name)), None)
    # The rows of each name as many parts of a version.
    for held, subject, parts in (
        (stack.version_of("torch"), "torch", 3),
        (tensorflow(stack), "tensorflow", 2),
        (stack.version_of("jax"), "jax", 3),
        (stack.version_of("numba"), "numba", 3),
        (cupy, "cupy", 1),
    ):
        if held is None or not held.version or not is_release(held.version):
            continue
        row = _row_of(dotted(release(held.version)[:parts]), matrix.rows(subject, "release"))
        if row is None or "python" not in row:
            continue
        # An import that was seen to be compiled for this Python is somebody's own build.
        seen = not stack.partial and held.name in stack.frameworks
        yield held.name, held, row["python"], row["source"], not (held.manager == "conda" or seen)


# ---- CUDA that a framework finds ---------------------------------------------------------------------------


class FoundCuda(NamedTuple):
    """The CUDA that a framework without libraries of its own would load."""

    version: str
    address: str
    where: str

    @property
    def evidence(self) -> Evidence:
        """Return the fact that says so: of a variable the folder that it holds."""
        return Evidence(self.address, self.where if self.address.startswith("environ.") else self.version)


def found_cuda(stack: Stack, framework: str) -> FoundCuda | None:
    """Return the CUDA that a framework finds: its effective cudart, else wheels, conda's, the active toolkit."""
    known = [copy for copy in stack.libraries("cudart") if copy.version]
    # A pasted report names the only one that it saw.
    alone = stack.partial and len(known) == 1 and not known[0].used_by
    for copy in known:
        if copy.version and (alone or framework in copy.used_by):
            return FoundCuda(copy.version, "library.cudart", copy.path or "libcudart")
    for name, package in stack.manifest.package.pip.items():
        if re.fullmatch(r"nvidia-cuda-runtime(?:-cu\d+)?", name) and package.version:
            return FoundCuda(package.version, f"package.pip.{name}", name)
    for name in ("cudatoolkit", "cuda-cudart", "cuda-runtime", "cuda-toolkit"):
        conda = stack.conda(name)
        if conda and conda.version:
            return FoundCuda(conda.version, f"package.conda.{name}", name)
    toolkits = [each for each in stack.manifest.toolkit if each.version]
    chosen = [each for each in toolkits if each.active] or (toolkits if len(toolkits) == 1 else [])
    if len(chosen) == 1:
        return FoundCuda(chosen[0].version or "", "toolkit", chosen[0].path or "the toolkit")
    from envlock.rules.gpu import active_nvcc

    nvcc = active_nvcc(stack) if stack.partial else None
    return FoundCuda(nvcc.version, nvcc.address, nvcc.path or "nvcc") if nvcc else None


@rule("framework-cuda-mismatch", layer="framework")
def framework_cuda_mismatch(stack: Stack, matrix: Matrix) -> Outcome:
    """The framework does not support the CUDA or cuDNN that it finds.

    Shows itself as "Could not load dynamic library 'libcudart.so.11.0'" (or libcusolver, libcudnn) with the GPU
    skipped, "Failed to load library libonnxruntime_providers_cuda.so", or "Required library version not found:
    libbitsandbytes_cuda100.so". TensorFlow, ONNX Runtime, CuPy and bitsandbytes take CUDA from the machine or
    the environment, and their releases are built for one CUDA.

    Fix: install the CUDA that the release was built for, or the release (or package) for this CUDA.

    Source: tensorflow/docs site/en/install/source.md, Tested build configurations; microsoft/onnxruntime
    docs/execution-providers/CUDA-ExecutionProvider.md, Requirements; CuPy documentation, Installation, Requirements;
    bitsandbytes-foundation/bitsandbytes docs/source/installation.mdx.
    """
    for check in (_tensorflow_cuda, _onnxruntime_cuda, _jax_cuda, _cupy_cuda, _mxnet_cuda, _paddle_cuda):
        yield from check(stack, matrix)
    yield from _bitsandbytes_cuda(stack, matrix)


def loads(built: str, have: str) -> bool:
    """Tell whether a program built for one CUDA finds its sonames in another.

    Up to 10.2 a soname has major and minor; CUDA 11.0's cusolver is libcusolver.so.10, from 11.1 on .so.11;
    otherwise the major counts.
    """
    one, two = series(built), series(have)
    if not one or not two:
        return True
    if one[0] != two[0]:
        return False
    if "." not in built or "." not in have:
        return True
    if one[0] < 11:
        return one == two
    return one[0] != 11 or (one[1] == 0) == (two[1] == 0)


def _cuda_finding(
    label: str, built: str, facts: tuple[Evidence, ...], found: FoundCuda, source: str, fixes: tuple[Fix, ...],
    severity: Severity = "error",
) -> Finding:  # fmt: skip
    place = f" ({found.where})" if found.where not in ("the toolkit", found.address) else ""
    return Finding(
        subject=found.address,
        message=f"{label} was built for CUDA {built} and finds CUDA {found.version}{place}",
        evidence=(found.evidence, *facts),
        fixes=fixes,
        source=source,
        severity=severity,
    )


def _cuda_fix(found: FoundCuda, built: str, stack: Stack) -> tuple[Fix, ...]:
    """Offer the CUDA that the framework was built for."""
    to = built if "." in built else f"{built}.0"
    trial: dict[str, Any]
    if found.address in ("toolkit", "compiler.nvcc") or found.address.startswith("environ."):
        from envlock.rules.gpu import toolkit_trial

        trial = toolkit_trial(stack, to)
    elif found.address == "library.cudart":
        from envlock.rules.cuda import to_plain_copy

        copies = stack.libraries("cudart")
        trial = {
            found.address: [
                {**to_plain_copy(copy), "version": to}
                if copy.used_by or len(copies) == 1
                else to_plain_copy(copy)
                for copy in copies
            ]
        }
    else:
        trial = {f"{found.address}.version": to}
    return (Fix(found.address, built, f"install CUDA {built} and put it first on the search path", trial),)


def _tensorflow_cuda(stack: Stack, matrix: Matrix) -> Outcome:
    held = tensorflow(stack)
    framework = stack.framework("tensorflow")
    if held is None or held.name in ("tensorflow-cpu", "intel-tensorflow", "tensorflow-macos"):
        return
    built = framework.cuda if framework and framework.cuda is not None else None
    row = None
    if built is None and held.manager != "conda":
        row = _row_of(dotted(series(held.version)), matrix.rows("tensorflow", "release"))
        built = row["cuda"] if row else None
    found = found_cuda(stack, "tensorflow")
    if not built or found is None or loads(built, found.version):
        return
    facts = (
        *([Evidence("framework.tensorflow.cuda", built)] if framework and framework.cuda else []),
        *_facts_of("tensorflow", held, stack),
    )
    source = row["source"] if row else "TensorFlow, tested build configurations (GPU)"
    yield _cuda_finding(
        f"{held.name} {held.version}", built, facts, found, source, _cuda_fix(found, built, stack)
    )


def _onnxruntime_cuda(stack: Stack, matrix: Matrix) -> Outcome:
    held = stack.version_of("onnxruntime-gpu")
    framework = stack.framework("onnxruntime")
    if held is None and framework and framework.cuda:
        from envlock.rules.stack import Installed

        held = stack.version_of("onnxruntime") or Installed(
            "onnxruntime", None, "framework.onnxruntime", "pip"
        )
    if held is None or not (held.version or (framework and framework.cuda)):
        return
    rows = [
        row
        for row in matrix.rows("onnxruntime", "release")
        if held.version and _same_release(row["version"], held.version)
    ]
    told = framework.cuda if framework else None
    mine = [row for row in rows if (major(row["cuda"]) == major(told) if told else row["pypi"])]
    built = told or (mine[0]["cuda"] if mine else None)
    if not built:
        return
    facts = (
        *([Evidence(held.address, held.version)] if held.version else []),
        *([Evidence("framework.onnxruntime.cuda", told)] if told else []),
    )
    source = mine[0]["source"] if mine else "ONNX Runtime, CUDA execution provider, requirements"
    found = found_cuda(stack, "onnxruntime")
    label = f"{held.name} {held.version}" if held.version else held.name
    # Up to CUDA 10.2 a library's name holds the minor as well.
    if found and (
        major(found.version) != major(built) or ((major(built) or 0) < 11 and not loads(built, found.version))
    ):
        other = () if told else _other_onnxruntime(rows, major(found.version), matrix)
        yield _cuda_finding(label, built, facts, found, source, (*_cuda_fix(found, built, stack), *other),
                            "warning" if other else "error")  # fmt: skip
        return
    yield from _onnxruntime_cudnn(stack, label, mine, facts)


def _other_onnxruntime(rows: list[Any], cuda: int | None, matrix: Matrix) -> tuple[Fix, ...]:
    """Offer the build of the same release for another CUDA, which lies on an index of its own."""
    from envlock.rules.builds import builds

    address = "framework.onnxruntime.cuda"
    return tuple(
        Fix(address, build.cuda, build.install, {address: build.cuda})
        for row in rows
        for build in builds(matrix, "onnxruntime-gpu", f"=={row['version']}")
        if major(row["cuda"]) == cuda and build.cuda == row["cuda"]
    )


def _same_release(listed: str, have: str) -> bool:
    size = len(release(listed))
    return release(listed) == release(have)[:size]


def _onnxruntime_cudnn(stack: Stack, label: str, rows: list[Any], facts: tuple[Evidence, ...]) -> Outcome:
    if not rows:
        return
    wanted = major(rows[0]["cudnn"])
    have: list[tuple[str, str]] = [
        ("library.cudnn", copy.version) for copy in stack.libraries("cudnn") if copy.version
    ]
    have += [
        (f"package.pip.{name}", package.version)
        for name, package in stack.manifest.package.pip.items()
        if re.fullmatch(r"nvidia-cudnn-cu\d+", name) and package.version
    ]
    have += [
        (f"package.conda.{n}", c.version)
        for n in ("cudnn", "libcudnn")
        if (c := stack.conda(n)) and c.version
    ]
    if not have or any(major(each) == wanted for _, each in have):
        return
    from envlock.rules.cuda import Held, install

    address, version = have[0]
    yield Finding(
        subject=address,
        message=f"{label} was built with cuDNN {wanted} and finds cuDNN {version} only",
        evidence=(*(Evidence(address, value) for address, value in have), *facts),
        fixes=install(stack, "cudnn", Held(version, address, "onnxruntime"), rows[0]["cudnn"]),
        source=rows[0]["source"],
        rank=1,
    )


def _jax_cuda(stack: Stack, matrix: Matrix) -> Outcome:
    for name, package in stack.manifest.package.pip.items():
        plugin = re.fullmatch(r"jax-cuda(\d+)-plugin", name)
        found = found_cuda(stack, "jax") if plugin else None
        if plugin is None or found is None or major(found.version) == int(plugin[1]):
            continue
        if any(major(copy.version) == int(plugin[1]) for copy in stack.libraries("cudart")):
            continue
        yield _cuda_finding(f"{name} {package.version or ''}".strip(), plugin[1],
                            (Evidence(f"package.pip.{name}", package.version),), found,
                            "jax-ml/jax docs/installation.md, NVIDIA GPU", _cuda_fix(found, plugin[1], stack),
                            "error" if found.address == "library.cudart" else "warning")  # fmt: skip


def _cupy_cuda(stack: Stack, matrix: Matrix) -> Outcome:
    rows = {row["package"]: row for row in matrix.rows("cupy", "package")}
    for name, package in stack.manifest.package.pip.items():
        parts = re.fullmatch(r"cupy-cuda(\d{2})(x|\d)", name)
        found = found_cuda(stack, "cupy") if parts else None
        if parts is None or found is None:
            continue
        row = rows.get(name)
        built = parts[1] if parts[2] == "x" else f"{parts[1]}.{parts[2]}"
        fits = matches(found.version, row["cuda"]) if row else series(found.version) == series(built)
        if fits is not False:
            continue
        facts = (Evidence(f"package.pip.{name}", package.version),)
        first = re.search(r">=(\d+\.\d+)", row["cuda"]) if row else None
        # Within a major only NVRTC's soname differs, and only up to 11.1.
        near = major(found.version) == int(parts[1]) and int(parts[1]) >= 11
        words = f"{first[1]} or newer" if first and near else built
        built = first[1] if first else built
        fixes = _cuda_fix(found, built, stack)
        other = f"cupy-cuda{major(found.version)}x"
        if other in rows:
            change = {f"package.pip.{name}": None, f"package.pip.{other}": {"version": package.version}}
            fixes = (Fix(f"package.pip.{name}", other, f"pip uninstall {name}, then pip install {other}", change),
                     *fixes)  # fmt: skip
        label = f"{name} {package.version or ''}".strip()
        source = row["source"] if row else "CuPy documentation, Installation, Requirements"
        yield _cuda_finding(label, words, facts, found, source, fixes, "warning" if near else "error")


def _mxnet_cuda(stack: Stack, matrix: Matrix) -> Outcome:
    for name, package in stack.manifest.package.pip.items():
        parts = re.fullmatch(r"mxnet-cu(\d{2,3})(?:mkl)?", name)
        found = found_cuda(stack, "mxnet") if parts else None
        if parts is None or found is None:
            continue
        digits = parts[1]
        built = f"{digits[:-1]}.{digits[-1]}"
        if not loads(built, found.version):
            yield _cuda_finding(f"{name} {package.version or ''}".strip(), built,
                                (Evidence(f"package.pip.{name}", package.version),), found,
                                "PyPI mxnet-cu110, mxnet-cu112: the CUDA that each uses",
                                _cuda_fix(found, built, stack))  # fmt: skip


def _paddle_cuda(stack: Stack, matrix: Matrix) -> Outcome:
    """Hold Paddle to the CUDA that its version names as a post release: "2.4.2.post117" is for 11.7."""
    held = stack.pip("paddlepaddle-gpu")
    parts = re.search(r"\.post(\d{3})$", held.version or "") if held else None
    found = found_cuda(stack, "paddle") if parts else None
    if held is None or parts is None or found is None:
        return
    built = f"{parts[1][:2]}.{parts[1][2]}"
    if not loads(built, found.version):
        yield _cuda_finding(f"paddlepaddle-gpu {held.version}", built,
                            (Evidence("package.pip.paddlepaddle-gpu", held.version),), found,
                            "PaddlePaddle/Paddle#55939: 2.4.2.post117 is the release for CUDA 11.7",
                            _cuda_fix(found, built, stack))  # fmt: skip


def _bitsandbytes_cuda(stack: Stack, matrix: Matrix) -> Outcome:
    """Hold bitsandbytes' binaries to the CUDA that it would choose: torch's, in old releases the machine's."""
    held = stack.version_of("bitsandbytes")
    if held is None and stack.framework("bitsandbytes") is None:
        return
    rows = [row for row in matrix.rows("extensions", "extension") if row["package"] == "bitsandbytes"]
    wanted = version(held.version) if held and held.version else None
    older = [row for row in rows if wanted and (version(row["version"]) or wanted) <= wanted]
    row = older[-1] if older else None
    torch = stack.build("torch")
    override = stack.environ.get("BNB_CUDA_VERSION", "")
    if re.fullmatch(r"\d{3}", override):
        cuda, fact, what = (
            f"{override[:2]}.{override[2]}",
            Evidence("environ.BNB_CUDA_VERSION", override),
            "BNB_CUDA_VERSION asks for",
        )
    elif torch and torch.cuda:
        cuda, fact, what = torch.cuda, Evidence(*torch.facts[0]), f"{torch.label} has"
    elif found := found_cuda(stack, "bitsandbytes"):
        cuda, fact, what = found.version, found.evidence, "it finds"
    else:
        return
    builds = row["cuda_builds"] if row else tuple({each for other in rows for each in other["cuda_builds"]})
    label = f"bitsandbytes {held.version}" if held and held.version else "bitsandbytes"
    if not builds or "." not in cuda or dotted(series(cuda)) in builds:
        return
    first, last = min(map(series, builds)), max(map(series, builds))
    if row is None and series(cuda) >= first:
        # Of a release that is not listed only this is known: none was ever built for so old a CUDA.
        return
    if row is not None and row is rows[-1] and wanted != version(row["version"]):
        yield Unknown(needs=f"the CUDA builds of {label}")
        return
    yield Finding(
        subject=fact.address,
        message=f"{label} has no binary for CUDA {dotted(series(cuda))}, which {what}: its builds are for "
        f"{dotted(first)} to {dotted(last)}",
        evidence=(fact, *(_facts_of("bitsandbytes", held, stack) if held else ())),
        fixes=_newer_bitsandbytes(held, cuda, rows, stack),
        source=(row or rows[-1])["source"],
    )


def _newer_bitsandbytes(held: Installed | None, cuda: str, rows: list[Any], stack: Stack) -> tuple[Fix, ...]:
    fitting = [row["version"] for row in rows if dotted(series(cuda)) in row["cuda_builds"]]
    if not fitting or held is None:
        return ()
    to = fitting[-1]
    return (Fix(held.address, to, f"install bitsandbytes {to}", version_trial("bitsandbytes", to, stack)),)


# ---- known defects -------------------------------------------------------------------------------------------


@rule("framework-known-bad", layer="framework", severity="warning")
def framework_known_bad(stack: Stack, matrix: Matrix) -> Outcome:
    """This release of a framework has a confirmed defect that other environments do not show.

    Shows itself as the row says: wrong numbers, hangs, memory, or errors in one operation. Rows whose condition
    cannot be seen in a manifest are notes.

    Fix: the release that the row names as fixed.

    Source: the release note or issue of each row (`envlock matrix breakages`).
    """
    for row in matrix.rows("breakages", "framework-known-bad"):
        held = stack.version_of(row["framework"])
        if held is None or not held.version or not matches(held.version, row["affected"]):
            continue
        evidence = [Evidence(held.address, held.version), *_facts_of(row["framework"], held, stack)[1:]]
        certain = False
        if "cuda" in row:
            build = stack.build(row["framework"])
            if build is None or not build.cuda or not matches(build.cuda, row["cuda"]):
                continue
            evidence += [Evidence(address, value) for address, value in build.facts]
            certain = True
        if "variable" in row:
            name = row["variable"]
            if name not in stack.environ:
                continue
            evidence.append(Evidence(f"environ.{name}", stack.environ[name]))
            certain = True
        if "platform" in row and stack.manifest.host.platform != row["platform"]:
            continue
        fixed = row.get("fixed_in")
        when = f" ({row['condition']})" if row.get("condition") else ""
        yield Finding(
            subject=held.address,
            message=f"{held.name} {held.version}{when}: {row['problem']}",
            evidence=tuple(evidence),
            fixes=(
                (Fix(held.address, f">={fixed}", f"install {held.name} {fixed} or newer",
                     version_trial(held.name, fixed, stack)),) if fixed else ()
            ),
            source=row["source"],
            severity="warning" if certain else "note",
            quiet=not certain,
            rank=0 if certain else 5,
        )  # fmt: skip
