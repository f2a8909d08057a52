"""Rules about the CUDA that a framework without libraries of its own finds on the machine or in the environment."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from envlock.manifest.versions import dotted, major, matches, release, series, version
from envlock.rules.engine import rule
from envlock.rules.framework import TORCH_COMPANIONS, Outcome, facts_of, row_of, tensorflow, version_trial
from envlock.rules.model import Evidence, Finding, Fix, Unknown

if TYPE_CHECKING:
    from envlock.matrix.loader import Matrix
    from envlock.rules.model import Severity
    from envlock.rules.stack import Installed, Stack


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
    yield from _stated_cuda(stack, matrix)


def _stated_cuda(stack: Stack, matrix: Matrix) -> Outcome:
    """Hold any framework whose CUDA a pasted report states to the only CUDA that the report shows.

    PyTorch brings its own, and what is compiled against PyTorch loads that.
    """
    listed = {row["package"] for row in matrix.rows("extensions", "extension")} - {"ctranslate2"}
    told = {"torch", "bitsandbytes", *TORCH_COMPANIONS, *listed}
    for name, framework in stack.frameworks.items():
        held = tensorflow(stack) if name == "tensorflow" else None
        found = found_cuda(stack, name) if framework.cuda and stack.partial and name not in told else None
        known = held or (name in _CUDA_CHECKED and stack.version_of(name))
        if found is None or known or not framework.cuda or loads(framework.cuda, found.version):
            continue
        label = f"{name} {framework.version}" if framework.version else name
        yield _cuda_finding(
            label,
            framework.cuda,
            (Evidence(f"framework.{name}.cuda", framework.cuda),),
            found,
            "sonames of the CUDA toolkit: major.minor up to 10.2, then the major",
            _cuda_fix(found, framework.cuda, stack),
            "error" if found.address == "library.cudart" else "warning",
        )


_CUDA_CHECKED = ("onnxruntime", "jax", "cupy", "mxnet", "paddle")
"""Frameworks whose CUDA the other checks of this rule know from their version or package."""


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
        row = row_of(dotted(series(held.version)), matrix.rows("tensorflow", "release"))
        built = row["cuda"] if row else None
    found = found_cuda(stack, "tensorflow")
    if not built or found is None or loads(built, found.version):
        return
    facts = (
        *([Evidence("framework.tensorflow.cuda", built)] if framework and framework.cuda else []),
        *facts_of("tensorflow", held, stack),
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
    if row is None and wanted is None and "." in cuda:
        yield from _later_bitsandbytes(cuda, (fact.address, what), rows, stack)
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
        evidence=(fact, *(facts_of("bitsandbytes", held, stack) if held else ())),
        fixes=_newer_bitsandbytes(held, cuda, rows, stack),
        source=(row or rows[-1])["source"],
    )


def _later_bitsandbytes(cuda: str, asked: tuple[str, str], rows: list[Any], stack: Stack) -> Outcome:
    """Say which releases lack a binary for a CUDA, where a pasted report does not state the release."""
    without = [row["version"] for row in rows if dotted(series(cuda)) not in row["cuda_builds"]]
    having = [row["version"] for row in rows if dotted(series(cuda)) in row["cuda_builds"]]
    if not stack.partial or not without or not having or asked[0].startswith("framework."):
        return
    address, what = asked
    yield Finding(
        subject=address,
        message=f"bitsandbytes has a binary for CUDA {dotted(series(cuda))}, which {what}, from {having[0]} to "
        f"{having[-1]} only; its release is not stated",
        evidence=(Evidence(address, cuda),),
        source=rows[-1]["source"],
        severity="note",
        quiet=True,
        rank=6,
    )


def _newer_bitsandbytes(held: Installed | None, cuda: str, rows: list[Any], stack: Stack) -> tuple[Fix, ...]:
    fitting = [row["version"] for row in rows if dotted(series(cuda)) in row["cuda_builds"]]
    if not fitting or held is None:
        return ()
    to = fitting[-1]
    return (Fix(held.address, to, f"install bitsandbytes {to}", version_trial("bitsandbytes", to, stack)),)
