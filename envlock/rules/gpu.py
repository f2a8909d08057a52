"""Rules about the GPU: is there code for it, can the toolkit build for it, may it be seen at all.

Which code runs on which GPU is CUDA's binary compatibility: machine code of sm_X.y runs on every X.z with
z >= y (not across majors, and on Tegra only on the very same); "a" code on exactly its own, "f" code within
its family; PTX of compute_P is compiled on the machine for every GPU from P on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from envlock.manifest.versions import dotted, matches, release, series, version
from envlock.matrix.lookup import nvcc_row
from envlock.rules.advise import rebuild_fixes
from envlock.rules.engine import rule
from envlock.rules.gpus import Device, devices, sm
from envlock.rules.model import Evidence, Finding, Fix, Unknown

if TYPE_CHECKING:
    from envlock.matrix.loader import Matrix
    from envlock.rules.model import Severity
    from envlock.rules.stack import Build, Stack

Outcome = Iterator["Finding | Unknown"]

_BINARY = "CUDA Programming Guide, Compute capabilities: binary compatibility and PTX compatibility"
_TEGRA = {(5, 3), (6, 2), (7, 2), (8, 7), (11, 0)}
_RENAMED = {(10, 1): (11, 0)}
"""Thor was 10.1 before CUDA 13."""

FRAMEWORKS = ("torch", "jax", "tensorflow", "cupy", "onnxruntime", "paddle", "mxnet")
"""What a program is built on; all else under [framework] is an extension, which it can often do without."""

_JIT = ("jax", "tensorflow", "cupy")
"""Frameworks that compile for the GPU which they find: a missing architecture is not the end."""

_ARCH = re.compile(r"(?:sm_|compute_|lto_)?(\d{2,4}|\d+\.\d)([af]?)")
_FAMILIES = {"kepler": "3.5", "maxwell": "5.0;5.2", "pascal": "6.0;6.1", "volta": "7.0", "turing": "7.5",
             "ampere": "8.0;8.6", "ada": "8.9", "hopper": "9.0", "blackwell": "9.0;10.0;10.3;12.0;12.1"}  # fmt: skip
"""Names that TORCH_CUDA_ARCH_LIST takes (torch.utils.cpp_extension)."""


class Arch(NamedTuple):
    """One architecture that code was compiled for."""

    major: int
    minor: int
    suffix: str = ""
    """"a": this GPU only; "f": its family; "": its major (machine code) or everything newer (PTX)."""

    def __str__(self) -> str:
        return f"{self.major}{self.minor}{self.suffix}"


def parse_arch(text: str) -> Arch | None:
    """Parse "sm_90a", "compute_100f", "9.0" or "86"; None for anything else."""
    found = _ARCH.fullmatch(text.strip().lower())
    if not found:
        return None
    digits = found[1].replace(".", "") if "." in found[1] else found[1]
    pair = (int(digits[:-1]), int(digits[-1]))
    return Arch(*_RENAMED.get(pair, pair), found[2])


def capability_of(device: Device) -> tuple[int, int] | None:
    """Return a device's compute capability as numbers."""
    pair = series(device.capability)
    return _RENAMED.get((pair[0], pair[1]), (pair[0], pair[1])) if pair else None


def runs_binary(arch: Arch, capability: tuple[int, int]) -> bool:
    """Tell whether machine code of an architecture runs on a GPU."""
    own = (arch.major, arch.minor)
    if arch.suffix == "a" or own in _TEGRA or capability in _TEGRA:
        return own == capability
    return arch.major == capability[0] and arch.minor <= capability[1]


def runs_ptx(arch: Arch, capability: tuple[int, int]) -> bool:
    """Tell whether PTX of an architecture can be compiled for a GPU."""
    own = (arch.major, arch.minor)
    if arch.suffix == "a":
        return own == capability
    return own <= capability and (arch.suffix != "f" or arch.major == capability[0])


class Code(NamedTuple):
    """The GPU code that something holds, and how that is known."""

    binary: tuple[Arch, ...]
    ptx: tuple[Arch, ...]
    address: str
    """The fact that says so."""
    kind: Literal["read", "listed", "limit"]
    """Read from the binary, listed in the matrix, or the most that its toolkit could have put in."""
    source: str

    def how(self, capability: tuple[int, int]) -> str:
        """Return "binary", "ptx" or "" for how this code gets onto a GPU."""
        if any(runs_binary(arch, capability) for arch in self.binary):
            return "binary"
        return "ptx" if any(runs_ptx(arch, capability) for arch in self.ptx) else ""

    def says(self) -> str:
        """Return it in words: "sm_80 sm_90, PTX compute_90"."""
        text = " ".join(f"sm_{arch}" for arch in sorted(set(self.binary)))
        ptx = " ".join(f"compute_{arch}" for arch in sorted(set(self.ptx)))
        return ", PTX ".join(part for part in (text, ptx) if part) if text else f"PTX {ptx}"


def archs(texts: Iterable[str]) -> tuple[Arch, ...]:
    """Parse a list of architectures and leave out what is none."""
    return tuple(arch for arch in map(parse_arch, texts) if arch)


def codes(build: Build, stack: Stack, matrix: Matrix) -> list[Code]:
    """Return what a framework's build may hold: one entry where that is known, several where it is one of them."""
    framework = stack.framework(build.name)
    if framework and (framework.archs or framework.ptx):
        texts = [text for text in framework.archs or () if not text.startswith("compute")]
        ptx = [*(framework.ptx or ()), *(t for t in framework.archs or () if t.startswith("compute"))]
        address = f"framework.{build.name}.archs"
        return [Code(archs(texts), archs(ptx), address, "read", _BINARY)]
    if build.cuda == "":
        return []
    if build.name == "torch" and is_official(build, stack):
        rows = torch_builds(build, matrix)
        if rows:
            windows = stack.manifest.host.platform == "windows"
            return [code for row in rows if (code := _listed(row, _subject(build), matrix, windows=windows))]
    limit = _limit(build.cuda, _subject(build), matrix)
    return [limit] if limit else []


def is_official(build: Build, stack: Stack) -> bool:
    """Tell whether this is PyTorch's own build, as the matrix lists them: of x86-64, and no one else's."""
    text = build.version or ""
    conda = stack.conda("pytorch")
    # The builds of PyTorch's own channel are named py3.11_cuda12.4_cudnn9.1.0_0.
    foreign = conda is not None and (
        "conda-forge" in (conda.channel or "") or not (conda.build or "py").startswith("py")
    )
    # A pasted report that states the CUDA alone leaves the release open.
    unstated = not text and stack.partial and bool(build.cuda) and "." in (build.cuda or "")
    return (
        (unstated or bool(re.fullmatch(r"\d+(\.\d+)*(\+cu\d+)?", text)))
        and not foreign
        and stack.manifest.host.arch in (None, "x86_64", "AMD64", "amd64")
        and stack.manifest.host.platform != "tegra"
    )


def torch_builds(build: Build, matrix: Matrix) -> list[Any]:
    """Return the matrix rows that a PyTorch build can be: one, or one a CUDA where that is not known."""
    wanted, cuda = series(build.version), series(build.cuda)
    rows = [row for row in matrix.rows("torch", "build") if not wanted or series(row["version"]) == wanted]
    return [row for row in rows if series(row["cuda"]) == cuda] if build.cuda else rows


def _listed(row: Any, subject: str, matrix: Matrix, *, windows: bool = False) -> Code | None:
    limit = _limit(row["cuda"], subject, matrix)
    if "archs" not in row:
        return limit
    # Where nobody has looked for PTX, there may be some of the newest architecture.
    ptx = row.get("ptx", row["archs"][-1:])
    binary = archs(row["archs"])
    if windows and limit:
        # The lists are of Linux; builds for Windows hold older GPUs longer.
        binary = (*(arch for arch in limit.binary if arch < binary[0]), *binary)
    return Code(binary, archs(ptx), subject, "listed", row["source"])


def _limit(cuda: str | None, subject: str, matrix: Matrix) -> Code | None:
    """Return the most that nvcc of a CUDA can put in: no machine code beyond its list, no PTX below it."""
    row = nvcc_row(matrix, cuda) if cuda and "." in cuda else None
    return Code(archs(row["archs"]), (), subject, "limit", row["source"]) if row else None


def _subject(build: Build) -> str:
    return next((address for address, _ in build.facts), f"framework.{build.name}")


def known_builds(stack: Stack) -> list[Build]:
    """Return the builds of every framework and extension that the manifest describes, frameworks first."""
    names = [name for name in FRAMEWORKS if name in stack.frameworks or name in stack.packages]
    names += [name for name in stack.frameworks if name not in names]
    return [build for name in names if (build := stack.build(name))]


@rule("gpu-arch-not-in-build", layer="gpu")
def gpu_arch_not_in_build(stack: Stack, matrix: Matrix) -> Outcome:
    """A framework or extension holds neither machine code nor usable PTX for this GPU.

    Shows itself as "no kernel image is available for execution on the device", "is not compatible with the
    current PyTorch installation", or "FlashAttention only supports ... GPUs or newer". Machine code runs on
    GPUs of its own major from its own minor on, PTX on every newer GPU.

    Fix: a build whose list of architectures holds the GPU: a newer release for a new GPU, one for an older
    CUDA for an old GPU; TORCH_CUDA_ARCH_LIST with the GPU's capability when building from source.

    Source: CUDA Programming Guide, binary and PTX compatibility; the builds' own architecture lists.
    """
    gpus = [device for device in devices(stack, matrix) if device.capability]
    if not gpus:
        return
    without_code = set()
    for build in known_builds(stack):
        for outcome in _uncovered(build, gpus, stack, matrix):
            without_code.add(build.name)
            yield outcome
    yield from _too_old_for_extension(gpus, stack, matrix)
    for row in matrix.rows("extensions", "capability"):
        if "torch" not in without_code:
            yield from _too_old_for_releases(row, gpus, stack)
    yield from _arch_list(gpus, stack)


def _uncovered(build: Build, gpus: Sequence[Device], stack: Stack, matrix: Matrix) -> Outcome:
    held = codes(build, stack, matrix)
    if not held:
        yield from _too_old_for_torch(build, gpus, stack, matrix)
        if build.name == "torch" and build.version and build.cuda != "" and _newer_than_matrix(build, matrix):
            yield Unknown(needs=f"the architectures that {build.label} is built for")
        return
    bare = [device for device in gpus if not any(_covers(code, device) for code in held)]
    default = _default_of_pypi(build, held, stack, matrix) if not bare else None
    if default:
        held = [default]
        bare = [device for device in gpus if not _covers(default, device)]
    if not bare:
        return
    code = held[0]
    yield Finding(
        subject=code.address,
        message=f"{build.label} has no code for {bare[0].label}: {_in_words(held)}",
        evidence=(
            Evidence("gpu", [device.label for device in bare]),
            *(Evidence(address, value) for address, value in _evidence(build, stack)),
        ),
        fixes=(rebuild_fixes(stack, matrix, "torch") or _other_builds(build, bare, stack, matrix))
        if build.name == "torch"
        else (),
        severity="warning" if default else _severity(build, code, bare, gpus, stack),
        source=code.source,
        rank=0 if build.name in FRAMEWORKS or code.kind == "read" else 1,
    )


def _too_old_for_torch(build: Build, gpus: Sequence[Device], stack: Stack, matrix: Matrix) -> Outcome:
    """Say what holds for every build of PyTorch since 0.3.1, where no row is known or a report states no release."""
    small = [gpu for gpu in gpus if (capability_of(gpu) or (99, 0)) <= (3, 0)]
    unlisted = (not build.version and stack.partial) or (bool(build.version) and is_official(build, stack))
    if (
        build.name != "torch"
        or build.cuda == ""
        or not small
        or not unlisted
        or _newer_than_matrix(build, matrix)
    ):
        return
    if build.version and series(build.version) < series("0.3.1"):
        return
    yield Finding(
        subject=_subject(build),
        message=f"{build.label} has no code for {small[0].label}: PyTorch's own builds ask for more than "
        "compute capability 3.0",
        evidence=(
            Evidence("gpu", [device.label for device in small]),
            *(Evidence(address, value) for address, value in build.facts),
        ),
        severity="warning",
        source="pytorch/pytorch#6515 (2.1), #31285 (3.0): PyTorch no longer supports this GPU because it is too old",
    )


def _default_of_pypi(build: Build, found: Sequence[Code], stack: Stack, matrix: Matrix) -> Code | None:
    """Return the code of PyPI's own build, which a version without a local part most likely is.

    Other builds of the release may hold the GPU: what rests on this is no more than likely.
    """
    pip = stack.pip("torch")
    if build.name != "torch" or build.cuda or len(found) < 2 or pip is None or not pip.version:
        return None
    if stack.manifest.host.platform not in (None, "linux", "wsl2") or not is_official(build, stack):
        return None
    row = next((row for row in matrix.rows("torch", "release") if row["version"] == pip.version), None)
    if row is None or "cuda" not in row:
        return None
    rows = [each for each in torch_builds(build, matrix) if each["cuda"] == row["cuda"]]
    return _listed(rows[0], f"package.pip.{build.name}", matrix) if rows else None


def _in_words(held: Sequence[Code]) -> str:
    if len(held) > 1:
        return "none of this release's builds has"
    verb = "its CUDA cannot build for more than" if held[0].kind == "limit" else "it holds"
    return f"{verb} {held[0].says()}"


def _severity(
    build: Build, code: Code, bare: Sequence[Device], gpus: Sequence[Device], stack: Stack
) -> Severity:
    """Judge: an error only where every GPU is left out and no PTX or run-time compiler can help."""
    if len(bare) < len(gpus):
        return "warning"
    if code.kind == "limit" and _is_newer(bare[0], code):
        return "error" if build.name == "torch" and is_official(build, stack) else "warning"
    if code.kind == "read" and build.name in _JIT and code.ptx:
        return "warning"
    return "error" if build.name in FRAMEWORKS or code.kind == "read" else "warning"


def _evidence(build: Build, stack: Stack) -> list[tuple[str, Any]]:
    """Return the facts of a build that say what code it holds."""
    facts: list[tuple[str, Any]] = []
    framework = stack.framework(build.name)
    if framework and framework.archs is not None:
        facts.append((f"framework.{build.name}.archs", list(framework.archs)))
    if framework and framework.ptx:
        facts.append((f"framework.{build.name}.ptx", list(framework.ptx)))
    return [*facts, *build.facts]


def _covers(code: Code, device: Device) -> bool:
    capability = capability_of(device)
    return capability is None or bool(code.how(capability))


def _is_newer(device: Device, code: Code) -> bool:
    capability = capability_of(device)
    newest = max(((arch.major, arch.minor) for arch in (*code.binary, *code.ptx)), default=(0, 0))
    return capability is not None and capability > newest


def _newer_than_matrix(build: Build, matrix: Matrix) -> bool:
    newest = max(series(row["version"]) for row in matrix.rows("torch", "build"))
    return series(build.version) > newest


def _other_builds(build: Build, bare: Sequence[Device], stack: Stack, matrix: Matrix) -> tuple[Fix, ...]:
    """Offer the same release for another CUDA, else the nearest releases, that hold the GPUs."""
    rows = matrix.rows("torch", "build")
    order = sorted({series(row["version"]) for row in rows} | {series(build.version)})
    at = order.index(series(build.version))
    fitting = [
        (abs(order.index(series(row["version"])) - at), row)
        for row in rows
        if row.get("archs")
        and all(
            _covers(Code(archs(row["archs"]), archs(row.get("ptx", ())), "", "listed", ""), gpu)
            for gpu in bare
        )
    ]
    fitting.sort(key=lambda each: each[0])
    return tuple(_install_torch(row, build, stack) for _, row in fitting[:2])


def _install_torch(row: Any, build: Build, stack: Stack) -> Fix:
    same = build.version is not None and series(row["version"]) == series(build.version)
    number = (build.version or "").split("+")[0] if same else f"{row['version']}.0"
    spelled = f"{number}+cu{row['cuda'].replace('.', '')}"
    trial: dict[str, Any] = {
        "framework.torch.cuda": row["cuda"],
        "framework.torch.version": spelled,
        "framework.torch.archs": [sm(each) for each in row["archs"]],
        "framework.torch.ptx": ["compute_" + each.replace(".", "") for each in row.get("ptx", ())],
    }
    if stack.pip("torch"):
        trial["package.pip.torch.version"] = spelled
    if stack.conda("pytorch"):
        trial |= {"package.conda.pytorch.version": number, "package.conda.pytorch.build": None}
    return Fix("framework.torch.version", spelled, f"install torch {number} for CUDA {row['cuda']}", trial)


def _too_old_for_extension(gpus: Sequence[Device], stack: Stack, matrix: Matrix) -> Outcome:
    for name in dict.fromkeys(row["package"] for row in matrix.rows("extensions", "extension")):
        held = stack.version_of(name)
        framework = stack.framework(name)
        if held is None or (framework and framework.archs):
            continue
        row = (
            _extension_row(name, held.version, matrix) if held.version else _any_release(name, stack, matrix)
        )
        if row is None or "capability" not in row:
            continue
        small = [gpu for gpu in gpus if (capability_of(gpu) or (99, 0)) < series(row["capability"])]
        if small:
            yield Finding(
                subject=held.address,
                message=f"{name}{' ' + held.version if held.version else ''} has no code for {small[0].label}: it "
                f"needs compute capability {row['capability']} or newer",
                evidence=(
                    Evidence(held.address, held.version),
                    Evidence("gpu", [device.label for device in small]),
                ),
                fixes=(
                    Fix(
                        address=held.address,
                        to="removed",
                        message=f"uninstall {name}; the program then has to use another implementation",
                        trial={_table(held.address): None, f"framework.{name}": None},
                    ),
                ),
                severity="warning",
                source=row["source"],
            )
    yield from _source_bitsandbytes(gpus, stack)


def _too_old_for_releases(row: Any, gpus: Sequence[Device], stack: Stack) -> Outcome:
    """Find a GPU that is older than a whole range of releases asks for; torch.compile is Triton's only user here."""
    name = row["package"]
    held, framework = stack.version_of(name), stack.framework(name)
    torch = stack.version_of("torch")
    if held is None and name == "triton" and stack.partial and torch and matches(torch.version, ">=2"):
        held, framework = torch, None
    small = [gpu for gpu in gpus if (capability_of(gpu) or (99, 0)) < series(row["capability"])]
    if held is None or (framework and framework.archs) or len(small) < len(gpus):
        return
    if held.name == name and held.version and matches(held.version, row["versions"]) is False:
        return
    use = "torch.compile of " if held.name != name else ""
    quiet = bool(row.get("quiet"))
    yield Finding(
        subject=held.address,
        message=f"{use}{held.name}{' ' + held.version if held.version else ''} does not support {small[0].label}: "
        f"{name} needs compute capability {row['capability']} or newer",
        evidence=(
            Evidence(held.address, held.version),
            Evidence("gpu", [device.label for device in small]),
        ),
        severity="note" if quiet else "warning",
        quiet=quiet,
        source=row["source"],
        rank=5 if quiet else 1,
    )


def _any_release(name: str, stack: Stack, matrix: Matrix) -> Any:
    """Return the row of a listed release with the lowest need, for a package of which a report states no version."""
    rows = [row for row in matrix.rows("extensions", "extension") if row["package"] == name]
    if not stack.partial or any("capability" not in row for row in rows):
        return None
    return min(rows, key=lambda row: series(row["capability"]), default=None)


def _table(address: str) -> str:
    return address.removesuffix(".version")


def _extension_row(name: str, text: str, matrix: Matrix) -> Any:
    """Return the row of the newest listed release that is not newer; None beyond the matrix's first and major."""
    found, wanted = None, version(text)
    for row in matrix.rows("extensions", "extension"):
        listed = version(row["version"]) if row["package"] == name else None
        if listed is None or wanted is None or listed.release[0] != wanted.release[0]:
            continue
        if listed <= wanted or found is None:
            found = row
    return found


def _source_bitsandbytes(gpus: Sequence[Device], stack: Stack) -> Outcome:
    framework = stack.framework("bitsandbytes")
    old = [device for device in gpus if (capability_of(device) or (99, 0)) < (7, 5)]
    if framework is None or framework.source != "file" or framework.archs or not old:
        return
    yield Finding(
        subject="framework.bitsandbytes",
        message=f"bitsandbytes was built from source; for {old[0].label} (below 7.5) it loads its binary without "
        "cuBLASLt, which a plain build does not make",
        evidence=(
            Evidence("framework.bitsandbytes.source", framework.source),
            Evidence("gpu", [device.label for device in old]),
        ),
        severity="warning",
        source="bitsandbytes-foundation/bitsandbytes, cuda_setup and CMakeLists.txt (NO_CUBLASLT)",
    )


def _arch_list(gpus: Sequence[Device], stack: Stack) -> Outcome:
    """Judge TORCH_CUDA_ARCH_LIST: what is compiled under it holds just these architectures."""
    text = stack.environ.get("TORCH_CUDA_ARCH_LIST", "")
    code = arch_list_code(text)
    bare = [device for device in gpus if not _covers(code, device)]
    if not (code.binary or code.ptx) or not bare:
        return
    needed = sorted({device.capability or "" for device in bare})
    longer = (";" if ";" in text else " ").join([text, *needed])
    yield Finding(
        subject="environ.TORCH_CUDA_ARCH_LIST",
        message=f"TORCH_CUDA_ARCH_LIST={text} leaves out {bare[0].label}: extensions that are built so do not run on it",
        evidence=(
            Evidence("environ.TORCH_CUDA_ARCH_LIST", text),
            Evidence("gpu", [device.label for device in bare]),
        ),
        fixes=(
            Fix(
                address="environ.TORCH_CUDA_ARCH_LIST",
                to=longer,
                message=f"add {' and '.join(needed)} and build the extensions again",
                trial={"environ.TORCH_CUDA_ARCH_LIST": longer},
            ),
        ),
        severity="warning",
        source="PyTorch, torch.utils.cpp_extension, TORCH_CUDA_ARCH_LIST; " + _BINARY,
        rank=1,
    )


def arch_list_code(text: str) -> Code:
    """Read TORCH_CUDA_ARCH_LIST ("7.5 8.0;9.0+PTX", "Ampere") as the code that it makes."""
    binary: list[Arch] = []
    ptx: list[Arch] = []
    for item in re.split(r"[;,\s]+", text.strip().strip("\"'").lower())[:64]:
        name, plus, _ = item.partition("+ptx")
        members = archs(_FAMILIES.get(name.partition("+")[0], name).split(";"))
        binary += members
        ptx += members[-1:] if plus else ()
    return Code(tuple(binary), tuple(ptx), "environ.TORCH_CUDA_ARCH_LIST", "read", "")


@rule("gpu-arch-ptx-only", layer="gpu", severity="note")
def gpu_arch_ptx_only(stack: Stack, matrix: Matrix) -> Outcome:
    """A framework holds PTX only for this GPU, no machine code.

    Shows itself as a first start that takes minutes (the driver compiles every kernel, then caches it), and
    as CUDA error 222 where the driver is older than the CUDA that made the PTX.

    Fix: a build with machine code for the GPU; until then keep the cache (CUDA_CACHE_PATH, CUDA_CACHE_MAXSIZE).

    Source: CUDA Programming Guide, just-in-time compilation.
    """
    for build in known_builds(stack):
        held = codes(build, stack, matrix)
        if not held:
            continue
        for device in devices(stack, matrix):
            capability = capability_of(device)
            if capability and all(code.how(capability) == "ptx" for code in held):
                yield Finding(
                    subject=held[0].address,
                    message=f"{build.label} holds only PTX for {device.label}: the driver compiles it at first start",
                    evidence=(
                        Evidence("gpu", [device.label]),
                        *(Evidence(address, value) for address, value in _evidence(build, stack)),
                    ),
                    source="CUDA Programming Guide, Just-in-Time Compilation",
                )
                break


@rule("toolkit-gpu-unsupported", layer="gpu", severity="warning", needs=("toolkit|compiler.nvcc", "gpu"))
def toolkit_gpu_unsupported(stack: Stack, matrix: Matrix) -> Outcome:
    """This nvcc cannot build for this GPU: it is too old to know it, or has dropped it.

    Shows itself as "nvcc fatal: Unsupported gpu architecture 'compute_89'" when an extension is compiled, or as
    "ptxas fatal: Value 'sm_121a' is not defined for option 'gpu-name'" from Triton, which brings an assembler of its
    own. A toolkit that is older than the GPU but knows its major can still build code that runs on it, when told
    so (TORCH_CUDA_ARCH_LIST).

    Fix: a toolkit that lists the architecture (`nvcc --list-gpu-arch`); a newer Triton, or TRITON_PTXAS_PATH.

    Source: nvcc documentation, --gpu-architecture; release notes of each toolkit; the ptxas in Triton's wheels.
    """
    yield from _tritons_assembler(stack, matrix)
    toolkit = active_nvcc(stack)
    row = nvcc_row(matrix, dotted(series(toolkit.version))) if toolkit else None
    if toolkit is None or row is None:
        return
    known = archs(row["archs"])
    for device in devices(stack, matrix):
        capability = capability_of(device)
        if capability is None or any((arch.major, arch.minor) == capability for arch in known):
            continue
        near = any(runs_binary(arch, capability) for arch in known)
        older = capability > max((arch.major, arch.minor) for arch in known)
        other = _nvcc_that_builds(capability, matrix, newest=not older)
        why = "is older than the GPU" if older else "dropped the GPU" if not near else "does not list it"
        yield Finding(
            subject=toolkit.address,
            message=f"nvcc {toolkit.version} cannot build for {device.label}: it {why}",
            evidence=(toolkit.evidence, Evidence("gpu", [device.label])),
            fixes=_other_toolkit(toolkit, other, older, stack),
            severity="note" if near else "warning",
            source=row["source"],
            rank=2,
        )
        return


def _tritons_assembler(stack: Stack, matrix: Matrix) -> Outcome:
    """Find a GPU that the ptxas inside Triton does not know; Triton asks it for the GPU's very architecture."""
    held = next((found for name in ("triton", "pytorch-triton") if (found := stack.version_of(name))), None)
    if held is None or not held.version or stack.environ.get("TRITON_PTXAS_PATH"):
        return
    row = next((row for row in matrix.rows("cuda", "ptxas") if matches(held.version, row["versions"])), None)
    if row is None:
        return
    for device in devices(stack, matrix):
        capability = capability_of(device)
        cuda = row.get("blackwell", row["cuda"]) if capability and capability >= (10, 0) else row["cuda"]
        nvcc = nvcc_row(matrix, cuda)
        if capability is None or nvcc is None:
            continue
        known = {(arch.major, arch.minor) for arch in archs(nvcc["archs"])}
        if capability in known or capability < max(known):
            continue
        yield Finding(
            subject=held.address,
            message=f"{held.name} {held.version} brings the ptxas of CUDA {cuda}, which does not know {device.label}",
            evidence=(Evidence(held.address, held.version), Evidence("gpu", [device.label])),
            fixes=(
                Fix(
                    address="environ.TRITON_PTXAS_PATH",
                    to="the ptxas of a newer toolkit",
                    message="let TRITON_PTXAS_PATH name the ptxas of a newer toolkit",
                    trial={"environ.TRITON_PTXAS_PATH": "/usr/local/cuda/bin/ptxas"},
                ),
            ),
            source=row["source"],
            rank=1,
        )
        return


def _nvcc_that_builds(capability: tuple[int, int], matrix: Matrix, *, newest: bool) -> str | None:
    fitting = [
        row["cuda"]
        for row in matrix.rows("cuda", "nvcc")
        if any((arch.major, arch.minor) == capability for arch in archs(row["archs"]))
    ]
    if not fitting:
        return None
    return str(max(fitting, key=release) if newest else min(fitting, key=release))


def _other_toolkit(toolkit: Nvcc, cuda: str | None, older: bool, stack: Stack) -> tuple[Fix, ...]:
    if cuda is None:
        return ()
    return (
        Fix(
            address=toolkit.address,
            to=f">={cuda}" if older else f"<={cuda}",
            message=f"build with CUDA toolkit {cuda} or {'newer' if older else 'older'}",
            trial=toolkit_trial(stack, cuda),
        ),
    )


class Nvcc(NamedTuple):
    """The nvcc that a build would use."""

    version: str
    address: str
    path: str | None

    @property
    def evidence(self) -> Evidence:
        """Return the fact that says so: of a variable the folder that it holds."""
        return Evidence(self.address, self.path if self.address.startswith("environ.") else self.version)


def active_nvcc(stack: Stack) -> Nvcc | None:
    """Return the toolkit that CUDA_HOME or PATH select, or the only one; None where there is none or no version.

    A toolkit without a version has that of its folder's name (/usr/local/cuda-11.8), if that holds one.
    """
    toolkits = stack.manifest.toolkit
    home = stack.environ.get("CUDA_HOME") or stack.environ.get("CUDA_PATH")
    chosen = next((each for each in toolkits if each.active), None) or next(
        (each for each in toolkits if home and each.path and each.path.rstrip("/") == home.rstrip("/")), None
    )
    if chosen is None and len(toolkits) == 1 and toolkits[0].active is None:
        chosen = toolkits[0]
    if chosen is not None and (found := chosen.version or _version_in(chosen.path)):
        return Nvcc(found, "toolkit", chosen.path)
    nvcc = stack.manifest.compiler.nvcc
    if nvcc:
        return Nvcc(nvcc, "compiler.nvcc", None)
    named = _version_in(home) if not toolkits else None
    return (
        Nvcc(named, "environ.CUDA_HOME" if "CUDA_HOME" in stack.environ else "environ.CUDA_PATH", home)
        if named
        else None
    )


def _version_in(path: str | None) -> str | None:
    found = re.search(
        r"cuda[-_/]v?(\d+\.\d+(?:\.\d+)?)(?=$|/)", (path or "").rstrip("/\\").lower().replace("\\", "/")
    )
    return found[1] if found else None


def toolkit_trial(stack: Stack, cuda: str) -> dict[str, Any]:
    """Return the changes that make a CUDA release the active toolkit, one that is there already if possible."""
    there = [each for each in stack.manifest.toolkit if series(each.version) == series(cuda)]
    path = there[0].path if there else None
    chosen: dict[str, Any] = {"version": there[0].version if there else cuda, "active": True}
    if path:
        chosen["path"] = path
    trial: dict[str, Any] = {"toolkit": [chosen]}
    trial |= {f"environ.{name}": path for name in ("CUDA_HOME", "CUDA_PATH") if name in stack.environ}
    if stack.manifest.compiler.nvcc:
        trial["compiler.nvcc"] = chosen["version"]
    return trial


@rule("gpu-hidden", layer="gpu", severity="warning", needs=("gpu", "environ|container.visible_devices"))
def gpu_hidden(stack: Stack, matrix: Matrix) -> Outcome:
    """The environment hides the GPUs from CUDA, or names some that are not there.

    Shows itself as device_count() 0, "no CUDA-capable device is detected" or "invalid device ordinal" while
    nvidia-smi lists the GPUs. CUDA stops reading CUDA_VISIBLE_DEVICES at the first name that it does not
    know: what follows is hidden as well.

    Fix: unset CUDA_VISIBLE_DEVICES, or name GPUs that are there.

    Source: CUDA Programming Guide, CUDA environment variables, CUDA_VISIBLE_DEVICES.
    """
    text = stack.environ.get("CUDA_VISIBLE_DEVICES")
    if text is None or (text == "" and stack.partial):
        return
    counts = [gpu.count for gpu in stack.gpus]
    total = sum(count or 1 for count in counts) if stack.gpus else None
    # Without a count a pasted report may have left GPUs out.
    certain = total is not None and not (stack.partial and any(count is None for count in counts))
    # Nobody copies the variable into a report of something that needs no GPU.
    used = stack.partial or bool(stack.gpus) or any(build.cuda for build in known_builds(stack))
    problem = _hides(text, total if certain else None) if used else ""
    if not problem:
        return
    yield Finding(
        subject="environ.CUDA_VISIBLE_DEVICES",
        message=problem,
        evidence=(
            Evidence("environ.CUDA_VISIBLE_DEVICES", text),
            *([Evidence("gpu", [device.label for device in devices(stack, matrix)])] if stack.gpus else []),
        ),
        fixes=(
            Fix(
                address="environ.CUDA_VISIBLE_DEVICES",
                to="unset",
                message="unset CUDA_VISIBLE_DEVICES",
                trial={"environ.CUDA_VISIBLE_DEVICES": None},
            ),
        ),
        source="CUDA Programming Guide, CUDA environment variables",
    )


def _hides(text: str, total: int | None) -> str:
    """Say what CUDA_VISIBLE_DEVICES hides by mistake; "" where it is in order as far as is known."""
    items = [item.strip() for item in text.split(",")]
    if not re.fullmatch(r"\d+|(GPU|MIG)-.+", items[0]):
        return f"CUDA_VISIBLE_DEVICES={text or chr(34) * 2} hides every GPU from CUDA"
    if sum(item.startswith("MIG-") for item in items) > 1:
        return f"CUDA_VISIBLE_DEVICES={text} names several MIG instances, and CUDA uses only the first"
    if total is not None:
        wrong = next((item for item in items if item.isdigit() and int(item[:9]) >= total), None)
        if wrong is not None:
            last = "the only one" if total == 1 else "the last"
            return f"CUDA_VISIBLE_DEVICES={text} names GPU {wrong}, and {last} is GPU {total - 1}"
    return ""
