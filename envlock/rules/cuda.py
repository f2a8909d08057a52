"""Rules about the CUDA libraries and the toolkit: which copy wins, do the parts belong together, can one build.

The helpers at the top answer for every library (cuDNN and NCCL ask them too): which copies a framework's
search order ends at, which one it came with, and what its installed packages pin.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from envlock.manifest.requirements import parse_requirement
from envlock.manifest.versions import dotted, major, matches, series
from envlock.rules.driver import driver_cuda, known_bad_applies
from envlock.rules.engine import FRAMEWORK, rule
from envlock.rules.gpu import (
    active_nvcc,
    capability_of,
    codes,
    is_official,
    known_builds,
    toolkit_trial,
    torch_builds,
)
from envlock.rules.gpus import devices
from envlock.rules.model import Evidence, Finding, Fix, Unknown

if TYPE_CHECKING:
    from envlock.manifest.model import Library
    from envlock.matrix.loader import Matrix
    from envlock.rules.model import Severity
    from envlock.rules.stack import Build, Stack

Outcome = Iterator["Finding | Unknown"]

LIBRARIES = ("cudart", "cublas", "cublaslt", "cusparse", "cusparselt", "cusolver", "cufft", "curand", "nvjitlink",
             "nvrtc", "cupti", "nvshmem")  # fmt: skip
"""Libraries of the toolkit, by their names in the manifest; cuDNN and NCCL have layers of their own."""

_AS_CUDA = ("cuda-runtime", "cuda-nvrtc", "cuda-cupti", "nvjitlink", "nvtx")
"""NVIDIA's wheels whose version is that of their CUDA release."""

_PART_OF = {"cudart": "cuda-runtime", "nvrtc": "cuda-nvrtc", "cupti": "cuda-cupti", "cublaslt": "cublas"}
"""Libraries that a wheel of another name brings."""

_WHEEL = re.compile(r"nvidia-(?P<part>[a-z0-9-]+?)-cu(?P<major>1[0-9])")
_BARE_WHEELS = re.compile(
    r"nvidia-(cuda-runtime|cuda-nvrtc|cuda-cupti|cublas|cufft|curand|cusolver|cusparse|nvjitlink)"
)
"""From CUDA 13 on the wheels of the toolkit have no suffix."""

_PIP_IN_PATH = re.compile(r"/(?:site|dist)-packages/")


class Shadow(NamedTuple):
    """A library of which another copy wins over the one that a framework came with."""

    framework: str
    winner: Library
    own: Library

    @property
    def older(self) -> bool | None:
        """Tell whether the winner is of an older minor or another major; None where a version is not known."""
        one, two = series(self.winner.version), series(self.own.version)
        if not one or not two:
            return None
        return one < two or one[0] != two[0]


def used(stack: Stack, library: str, framework: str) -> list[Library]:
    """Return the copies that a framework's search order ends at: several where its parts are spread."""
    return [copy for copy in stack.libraries(library) if framework in copy.used_by]


def comes_with(copy: Library, framework: str) -> bool:
    """Tell whether a copy was installed along with a framework: by pip or conda, or bundled in it."""
    provider = copy.provider or ""
    if provider.startswith(("pip:", "conda:")) or provider in ("bundled", framework):
        return True
    return not provider and bool(copy.path) and bool(_PIP_IN_PATH.search(copy.path or ""))


def shadows(stack: Stack, library: str, expected: dict[str, str]) -> list[Shadow]:
    """Return what wins over what; ``expected`` holds the version that a framework was built with, where known."""
    found = []
    copies = stack.libraries(library)
    for framework in dict.fromkeys(name for copy in copies for name in copy.used_by):
        winners = used(stack, library, framework)
        if len(winners) != 1 or comes_with(winners[0], framework):
            continue
        winner, wanted = winners[0], series(expected.get(framework))
        own = next(
            (
                copy
                for copy in (*copies, *_copy_of_wheel(stack, library, framework))
                if copy is not winner
                and framework not in copy.used_by
                and (comes_with(copy, framework) or (wanted and series(copy.version) == wanted))
                and not (copy.soname and winner.soname and _stem(copy.soname) != _stem(winner.soname))
                and (copy.version is None or copy.version != winner.version)
            ),
            None,
        )
        if own is not None:
            found.append(Shadow(framework, winner, own))
    found.sort(key=lambda each: (each.older is not True, each.framework not in expected))
    return found


def _copy_of_wheel(stack: Stack, library: str, framework: str) -> list[Library]:
    """Return the copy that an installed wheel of NVIDIA's brings, where a pasted report names only the package."""
    part = _PART_OF.get(library, library)
    if not stack.partial or any(comes_with(copy, framework) for copy in stack.libraries(library)):
        return []
    from envlock.manifest.model import Library

    return [
        Library(name=library, version=version, provider=f"pip:{name}")
        for (held_part, _), (name, version) in wheels(stack).items()
        if held_part == part and loads_wheels(stack, framework, part)
    ]


def _stem(soname: str) -> str:
    """Return a soname without its version: "libcublas.so.12" -> "libcublas"."""
    return re.split(r"\.so|[0-9_.]*\.dll", soname)[0]


def where(copy: Library) -> str:
    """Name a copy by its version and place."""
    place = copy.path or (copy.provider or "").removeprefix("pip:").removeprefix("conda:")
    return (copy.version or "of unknown version") + (f" ({place})" if place else "")


def path_entry(stack: Stack, copy: Library) -> tuple[str, str] | None:
    """Return the environment variable and the entry of it that lead to a copy; None where none does."""
    folder = (copy.path or "").rpartition("/")[0]
    for name in ("LD_LIBRARY_PATH", "LD_PRELOAD"):
        for entry in stack.environ.get(name, "").split(":"):
            if entry and folder and (entry.rstrip("/") == folder or entry == copy.path):
                return name, entry
    return None


def library_evidence(stack: Stack, library: str, winner: Library | None) -> list[Evidence]:
    """Return what bears on which copy wins: the copies, and the search path that is set."""
    copies = [
        {
            key: value
            for key, value in to_plain_copy(copy).items()
            if key in ("version", "path", "provider", "used_by")
        }
        for copy in stack.libraries(library)
    ]
    evidence = [Evidence(f"library.{library}", copies)] if copies else []
    entry = path_entry(stack, winner) if winner else None
    if entry:
        evidence.append(Evidence(f"environ.{entry[0]}", stack.environ[entry[0]]))
    elif "LD_LIBRARY_PATH" in stack.environ:
        evidence.append(Evidence("environ.LD_LIBRARY_PATH", stack.environ["LD_LIBRARY_PATH"]))
    return evidence


def to_plain_copy(copy: Library) -> dict[str, Any]:
    """Return one library copy as plain values, as a manifest holds it."""
    import msgspec

    plain: dict[str, Any] = msgspec.to_builtins(copy)
    return plain


def unshadow(stack: Stack, shadow: Shadow, library: str) -> tuple[Fix, ...]:
    """Offer to take the winner's folder off the search path, so that the framework's own copy is found."""
    entry = path_entry(stack, shadow.winner)
    moved = [
        {
            **to_plain_copy(copy),
            "used_by": sorted({*copy.used_by, *shadow.winner.used_by} if copy is shadow.own else ()),
        }
        for copy in stack.libraries(library)
        if copy is not shadow.winner
    ]
    trial: dict[str, Any] = {f"library.{library}": moved}
    if entry:
        left = ":".join(each for each in stack.environ[entry[0]].split(":") if each != entry[1])
        trial[f"environ.{entry[0]}"] = left or None
        return (
            Fix(f"environ.{entry[0]}", f"without {entry[1]}", f"take {entry[1]} out of {entry[0]}", trial),
        )
    place = shadow.winner.path or f"the copy of {shadow.winner.provider or 'unknown origin'}"
    return (
        Fix(
            address=f"library.{library}",
            to=shadow.own.version or "the framework's own",
            message=f"keep {place} off the library search path of {shadow.framework}",
            trial=trial,
        ),
    )


class Pin(NamedTuple):
    """What an installed framework requires of one of NVIDIA's wheels."""

    package: str
    specifier: str
    evidence: Evidence
    """The line that says so."""


def pinned(stack: Stack, framework: str, part: str) -> Pin | None:
    """Return what a framework, or the plugin that brings its CUDA, requires of one of NVIDIA's wheels."""
    for name in (framework, f"{framework}-cuda12-plugin", f"{framework}-cuda13-plugin", "jaxlib"):
        if name == "jaxlib" and framework != "jax":
            continue
        for line in stack.manifest.requires.get(name, ()):
            wanted = parse_requirement(line)
            if wanted and wanted.specifier and re.fullmatch(rf"nvidia-{part}(-cu\d+)?", wanted.name):
                return Pin(wanted.name, wanted.specifier, Evidence(f"requires.{name}", line))
    return None


class Held(NamedTuple):
    """A version of a library that would be used, and how that is known."""

    version: str
    address: str
    framework: str | None = None
    build: str | None = None
    """What the address holds where that is not the library: the framework's build, which is listed with it."""

    @property
    def evidence(self) -> Evidence:
        """Return the fact that says so."""
        return Evidence(self.address, self.build or self.version)


def held(stack: Stack, library: str, matrix: Matrix) -> list[Held]:
    """Return the versions of cuDNN or NCCL in use: effective copies, else wheels, else what frameworks state.

    Copies on disk that no search order ends at tell nothing, but for the only one in a pasted report.
    """
    copies = stack.libraries(library)
    found = [
        Held(copy.version, f"library.{library}", name)
        for copy in copies
        if copy.version
        for name in copy.used_by
    ]
    if not found and len(copies) == 1 and copies[0].version and (stack.partial or not stack.frameworks):
        found = [Held(copies[0].version, f"library.{library}")]
    if not found and not any(copy.used_by for copy in copies):
        found = [
            Held(version, f"package.pip.{name}")
            for (part, _), (name, version) in wheels(stack).items()
            if part == library and version
        ]
        found = found or _held_elsewhere(stack, library)
    for name, framework in stack.frameworks.items():
        stated = getattr(framework, library, None)
        if stated and not any(each.framework in (name, None) for each in found):
            found.append(Held(stated, f"framework.{name}.{library}", name))
    return found or _listed_for_torch(stack, library, matrix)


def _held_elsewhere(stack: Stack, library: str) -> list[Held]:
    """Return what conda or the system brought, for frameworks that do not bring their own as PyTorch's wheels do."""
    if stack.pip("torch") and not stack.conda("pytorch"):
        return []
    conda = stack.conda(library) or stack.conda(f"lib{library}")
    if conda and conda.version:
        name = library if stack.conda(library) else f"lib{library}"
        return [Held(conda.version, f"package.conda.{name}")]
    if stack.package("torch") or "torch" in stack.frameworks:
        return []
    return [
        Held(found[0], f"package.system.{name}")
        for name, text in stack.manifest.package.system.items()
        if re.fullmatch(rf"lib{library}\d(-cuda-\d+)?", name) and (found := re.match(r"\d+(\.\d+)+", text))
    ][:1]


def _listed_for_torch(stack: Stack, library: str, matrix: Matrix) -> list[Held]:
    """Return what PyTorch's own build pins, where every build that this can be pins the same."""
    build = stack.build("torch")
    if build is None or build.cuda == "" or not is_official(build, stack) or not build.version:
        return []
    rows = torch_builds(build, matrix)
    versions = {row.get(library) for row in rows}
    version = next(iter(versions)) if len(versions) == 1 else None
    return [Held(version, build.facts[0][0], "torch", build.facts[0][1])] if version and build.facts else []


def expected(stack: Stack, library: str, framework: str, matrix: Matrix) -> tuple[str, str, Any] | None:
    """Return the version that a framework was built with, and the fact (address, value) that says so."""
    build = stack.build(framework)
    facts = stack.framework(framework)
    stated = getattr(facts, library, None) if facts else None
    if stated:
        return stated, f"framework.{framework}.{library}", stated
    if build and library == "cudnn" and build.cudnn:
        return build.cudnn, *build.facts[0]
    pin = pinned(stack, framework, library)
    if pin and (found := re.search(r"[=>]=\s*(\d+(?:\.\d+)+)", pin.specifier)):
        return found[1], pin.evidence.address, pin.evidence.value
    if framework in ("tensorflow", "onnxruntime") and build and build.version and build.facts:
        for row in matrix.rows(framework, "release"):
            same = "cuda" not in row or not build.cuda or series(row["cuda"]) == series(build.cuda)
            if (
                library in row
                and same
                and series(row["version"]) == series(build.version)
                and build.cuda != ""
            ):
                return row[library], *build.facts[0]
        return None
    if framework == "torch" and build:
        listed = _listed_for_torch(stack, library, matrix)
        return (
            (listed[0].version, *build.facts[0])
            if listed
            else _major_for_torch(build, library, stack, matrix)
        )
    return None


def _major_for_torch(build: Build, library: str, stack: Stack, matrix: Matrix) -> tuple[str, str, Any] | None:
    """Return the major that all builds of a PyTorch release come with, where its CUDA and so the build is not known."""
    if build.cuda is not None or not build.version or not build.facts or not is_official(build, stack):
        return None
    majors = {major(row.get(library)) for row in torch_builds(build, matrix)}
    return (str(majors.pop()), *build.facts[0]) if len(majors) == 1 and None not in majors else None


def install(stack: Stack, library: str, have: Held, version: str, *, exact: bool = False) -> tuple[Fix, ...]:
    """Offer another version of a library in place of one that is used; () where that takes more than this.

    What is newer within the major serves as well, but for an ``exact`` one.
    """
    trial: dict[str, Any]
    if have.build is not None:
        return ()
    if have.address.startswith("package.pip.") or have.address.startswith("package.conda."):
        trial = {f"{have.address}.version": version}
    elif have.address.startswith("package.system."):
        trial = {have.address: version}
    elif have.address == f"library.{library}":
        trial = {have.address: []}
        for copy in stack.libraries(library):
            moved = have.framework in copy.used_by or have.framework is None
            trial[have.address].append({**to_plain_copy(copy), **({"version": version} if moved else {})})
            manager, _, name = (copy.provider or "").partition(":")
            held_package = {"pip": stack.pip, "conda": stack.conda}.get(manager)
            if moved and held_package and held_package(name):
                trial[f"package.{manager}.{name}.version"] = version
    else:
        return ()
    label = {"cudnn": "cuDNN", "nccl": "NCCL"}.get(library, library)
    to, more = (version, "") if exact else (f">={version}", " or newer of the same major")
    return (Fix(have.address, to, f"install {label} {version}{more}", trial),)


def loads_wheels(stack: Stack, framework: str, part: str) -> bool:
    """Tell whether a framework takes one of NVIDIA's libraries from its wheel, as far as is known.

    PyTorch's builds for Windows, and those whose metadata does not ask for the wheel, bundle their own.
    """
    if stack.manifest.host.platform == "windows":
        return False
    return framework not in stack.manifest.requires or pinned(stack, framework, part) is not None


def wheels(stack: Stack) -> dict[tuple[str, int], tuple[str, str | None]]:
    """Return NVIDIA's CUDA wheels as (part, CUDA major) -> (package, version)."""
    found: dict[tuple[str, int], tuple[str, str | None]] = {}
    for name, package in stack.manifest.package.pip.items():
        if not name.startswith("nvidia-"):
            continue
        if suffixed := _WHEEL.fullmatch(name):
            found[suffixed["part"], int(suffixed["major"])] = (name, package.version)
        elif bare := _BARE_WHEELS.fullmatch(name):
            # A release before 1 is an empty stand-in that pulls the suffixed one.
            number = major(package.version)
            if bare[1] in _AS_CUDA and number is not None and number >= 13:
                found[bare[1], number] = (name, package.version)
    return found


_CUDA_LIBRARY = re.compile(
    r"lib(cuda(rt|nn)|cublas|cufft|curand|cusolver|cusparse|cupti|nvrtc|nvJitLink|nccl|nvToolsExt)"
)


_GUIDES = {
    "tensorflow": "tensorflow/docs site/en/install/pip.md, Software requirements",
    "jax": "jax-ml/jax docs/installation.md, NVIDIA GPU",
    "onnxruntime": "microsoft/onnxruntime docs/execution-providers/CUDA-ExecutionProvider.md, Requirements",
    "cupy": "CuPy documentation, Installation, Requirements",
}
"""Frameworks that take CUDA from elsewhere, and where it says so."""


@rule("cuda-runtime-missing", layer="cuda")
def cuda_runtime_missing(stack: Stack, matrix: Matrix) -> Outcome:
    """A framework needs a CUDA library that its search order does not find.

    Shows itself as "libcudart.so.11.0: cannot open shared object file", "Could not find cuda drivers" or
    "Cannot dlopen some GPU libraries" with the GPU skipped. Before CUDA 11 a library's name holds major and
    minor, so that CUDA 10.1 does not serve a program that was built for 10.0.

    Fix: install the libraries that the framework asks for (its [and-cuda] extra, or NVIDIA's wheels), or the
    CUDA release that it was built for.

    Source: tensorflow/docs site/en/install/pip.md, Software requirements; jax-ml/jax docs/installation.md, NVIDIA GPU;
    microsoft/onnxruntime docs/execution-providers/CUDA-ExecutionProvider.md, Requirements; CuPy documentation,
    Installation, Requirements; sonames of the CUDA toolkit.
    """
    for name, framework in stack.frameworks.items():
        listed = [each.strip() for each in framework.needs.get("library", "").split(",")]
        missing = [each for each in listed if _CUDA_LIBRARY.match(each)]
        if missing:
            yield Finding(
                subject=f"framework.{name}.needs",
                message=f"{name} needs {' and '.join(missing)}, and its search order does not find "
                + ("them" if missing[1:] else "it"),
                evidence=(
                    Evidence(f"framework.{name}.needs", dict(framework.needs)),
                    *library_evidence(stack, "cudart", None),
                ),
                source="ELF headers of the framework's libraries (DT_NEEDED); ld.so(8)",
            )
    for build in known_builds(stack):
        # PyTorch's wheels pin what they need, or bundle it.
        if build.cuda and build.name in _GUIDES:
            yield from _nothing_there(build, stack)
            yield from _other_release(build, stack, matrix)


def _nothing_there(build: Build, stack: Stack) -> Outcome:
    """Find a framework on a real root with none of the libraries that it loads at run time."""
    lacking = [name for name in ("cublas", "cudnn") if not stack.libraries(name)]
    if build.name == "cupy":
        lacking = [name for name in ("nvrtc",) if not stack.libraries(name)]
    if stack.partial or stack.unobserved("library") or not lacking or build.name not in stack.frameworks:
        return
    if any(stack.unobserved(f"library.{name}") for name in lacking) or not stack.gpus:
        return
    yield Finding(
        subject=f"library.{lacking[0]}",
        message=f"{build.label} was built for CUDA {build.cuda}, and no {' or '.join(lacking)} is installed",
        evidence=(
            *(Evidence(f"library.{name}", None) for name in lacking),
            *(Evidence(address, value) for address, value in build.facts),
        ),
        source=_GUIDES[build.name],
        severity="warning" if build.name == "onnxruntime" else "error",
    )


def _other_release(build: Build, stack: Stack, matrix: Matrix) -> Outcome:
    """Find a framework of which only toolkits of other sonames are there, none of them the one in use."""
    toolkits = [each.version for each in stack.manifest.toolkit if each.version]
    served = any(part in ("cuda-runtime", "cublas") for part, _ in wheels(stack)) or any(
        name in stack.manifest.package.conda for name in ("cudatoolkit", "cuda-cudart", "cuda-runtime")
    )
    if not toolkits or served or stack.libraries("cudart") or stack.libraries("cublas"):
        return
    wanted = _soname_of(build.cuda or "")
    if not wanted or any(_soname_of(each) == wanted for each in toolkits):
        return
    from envlock.rules.framework_cuda import framework_cuda_mismatch

    if any(
        getattr(each, "subject", "") == "toolkit" for each in framework_cuda_mismatch.check(stack, matrix)
    ):
        # What the toolkit in use does to a framework is that rule's to say.
        return
    yield Finding(
        subject="toolkit",
        message=f"{build.label} needs libcudart.so.{wanted} of CUDA {build.cuda}, and only CUDA "
        f"{' and '.join(toolkits)} {'are' if toolkits[1:] else 'is'} installed",
        evidence=(
            Evidence("toolkit", toolkits),
            *(Evidence(address, value) for address, value in build.facts),
        ),
        fixes=(
            Fix(
                address="toolkit",
                to=dotted(series(build.cuda)),
                message=f"install CUDA {build.cuda} beside {'them' if toolkits[1:] else 'it'}",
                trial=toolkit_trial(stack, build.cuda or ""),
            ),
        ),
        source="sonames of the CUDA toolkit: major.minor up to 10.2, then the major",
        rank=1,
    )


def _soname_of(cuda: str) -> str:
    """Return the version in libcudart's soname for a CUDA release: "10.1", then "11.0", "12", "13"."""
    numbers = series(cuda)
    if not numbers:
        return ""
    return dotted(numbers) if numbers[0] < 11 else "11.0" if numbers[0] == 11 else str(numbers[0])


@rule("cuda-library-shadowed", layer="cuda")
def cuda_library_shadowed(stack: Stack, matrix: Matrix) -> Outcome:
    """Another copy of a CUDA library wins over the one that the framework came with.

    Shows itself as "undefined symbol: __nvJitLinkComplete_12_4", "version libcublas.so.12 not found",
    CUBLAS_STATUS_NOT_INITIALIZED or crashes: LD_LIBRARY_PATH (often of a module, or of another toolkit) comes
    before the RUNPATH that leads to the wheels.

    Fix: take the folder out of LD_LIBRARY_PATH; a program that needs it can be given it alone.

    Source: ld.so(8), search order; pytorch/pytorch issue 141063.
    """
    for library in LIBRARIES:
        for shadow in shadows(stack, library, {})[:1]:
            yield Finding(
                subject=f"library.{library}",
                message=f"{shadow.framework} loads {library} {where(shadow.winner)} instead of its own "
                f"{where(shadow.own)}",
                evidence=(
                    *library_evidence(stack, library, shadow.winner),
                    *_built_with(shadow.framework, stack),
                ),
                fixes=unshadow(stack, shadow, library),
                source="ld.so(8), search order of shared objects",
                severity=_shadow_severity(shadow, library),
                rank=0 if library == "nvjitlink" else 1,
            )
    yield from _older_nvjitlink(stack)
    yield from _halves_of_cublas(stack)


def _halves_of_cublas(stack: Stack) -> Iterator[Finding]:
    """Find cuBLAS and cuBLASLt from different places in one framework, though only one of them was recorded of each.

    They are two files of one library: an older half lacks symbols of the newer ("undefined symbol: cublasLt...").
    """
    copies = (*stack.libraries("cublas"), *stack.libraries("cublaslt"))
    light = {
        copy
        for copy in copies
        if copy.name == "cublaslt" or _stem(copy.soname or "").lower() == "libcublaslt"
    }
    for framework in dict.fromkeys(name for copy in copies for name in copy.used_by):
        found = [copy for copy in copies if framework in copy.used_by]
        recorded = any(copy in light and framework not in copy.used_by for copy in copies)
        halves = [copy for copy in found if copy not in light], [copy for copy in found if copy in light]
        if recorded or [len(half) for half in halves] != [1, 1]:
            continue
        whole, half = halves[0][0], halves[1][0]
        same = bool(whole.version) and whole.version == half.version
        if same or comes_with(whole, framework) == comes_with(half, framework):
            continue
        yield Finding(
            subject=f"library.{half.name}",
            message=f"{framework} loads cuBLAS {where(whole)} with the cuBLASLt {where(half)}: they are two halves of "
            "one library",
            evidence=(
                *library_evidence(stack, half.name, half),
                *_built_with(framework, stack),
            ),
            source="ld.so(8), search order of shared objects; pytorch/pytorch#174320",
            severity="warning",
        )


def _older_nvjitlink(stack: Stack) -> Iterator[Finding]:
    """Find an nvJitLink from elsewhere that is older than the CUDA of the framework that loads it.

    Its symbols carry the minor (__nvJitLinkComplete_12_4), so an older one lacks what cuSPARSE asks for,
    whether or not the framework's own copy was recorded as well.
    """
    copies = stack.libraries("nvjitlink")
    for framework in dict.fromkeys(name for copy in copies for name in copy.used_by):
        build, winners = stack.build(framework), used(stack, "nvjitlink", framework)
        if build is None or not build.cuda or len(winners) != 1 or comes_with(winners[0], framework):
            continue
        have, want = series(winners[0].version), series(build.cuda)
        recorded = any(comes_with(copy, framework) for copy in copies)
        if recorded or not have or have[0] != want[0] or have >= want or "." not in build.cuda:
            continue
        yield Finding(
            subject="library.nvjitlink",
            message=f"{framework} loads nvjitlink {where(winners[0])}, which is older than its CUDA {build.cuda}",
            evidence=(
                *library_evidence(stack, "nvjitlink", winners[0]),
                *_built_with(framework, stack),
            ),
            source="ld.so(8), search order of shared objects; pytorch/pytorch issue 141063",
        )


def _shadow_severity(shadow: Shadow, library: str) -> Severity:
    """Judge: another major does not load, an older nvJitLink lacks symbols, other older minors may do."""
    if shadow.older is None:
        return "warning"
    if not shadow.older:
        return "note"
    other = major(shadow.winner.version) != major(shadow.own.version)
    return "error" if other or library == "nvjitlink" else "warning"


def _built_with(framework: str, stack: Stack) -> list[Evidence]:
    build = stack.build(framework)
    return [Evidence(address, value) for address, value in build.facts] if build else []


@rule("cuda-component-mismatch", layer="cuda", severity="warning")
def cuda_component_mismatch(stack: Stack, matrix: Matrix) -> Outcome:
    """Installed CUDA components are not those that the framework pins.

    Shows itself as undefined symbols between NVIDIA's libraries (cuSPARSE needs an nvJitLink at least as new
    as itself), or as slow or missing kernels: another package pulled a component up or down.

    Fix: install what the framework pins, which its own metadata states.

    Source: Requires-Dist of the framework's wheel; CUDA release notes, component versions.
    """
    for build in known_builds(stack):
        for (part, cuda_major), (name, version) in wheels(stack).items():
            if part in ("cudnn", "nccl") or not version:
                continue
            pin = pinned(stack, build.name, part)
            if pin:
                if pin.package == name and matches(version, pin.specifier) is False:
                    yield _component(build, name, version, pin.specifier, pin.evidence, part)
            elif part in _AS_CUDA and build.name == "torch" and build.cuda and "." in build.cuda:
                wanted = series(build.cuda)
                other = cuda_major == wanted[0] and series(version) != wanted
                if other and loads_wheels(stack, "torch", part):
                    yield _component(build, name, version, f"=={dotted(wanted)}.*", None, part)


def _component(
    build: Build, name: str, version: str, specifier: str, line: Evidence | None, part: str
) -> Finding:
    from envlock.rules.package import boundary

    wanted = boundary(specifier)
    older = bool(wanted) and series(version) < series(wanted)
    return Finding(
        subject=f"package.pip.{name}",
        message=f"{build.label} is built with {name}{specifier}, and {version} is installed",
        evidence=(
            Evidence(f"package.pip.{name}", version),
            *([line] if line else []),
            *(Evidence(address, value) for address, value in build.facts),
        ),
        fixes=(
            Fix(
                address=f"package.pip.{name}",
                to=specifier,
                message=f"install {name}{specifier}",
                trial={f"package.pip.{name}.version": wanted},
            ),
        )
        if wanted
        else (),
        # cuSPARSE and cuSOLVER look up symbols that an older nvJitLink lacks.
        severity="error" if part == "nvjitlink" and older else "warning" if line or older else "note",
        source="Requires-Dist of the wheel" if line else "CUDA release notes, component versions",
        rank=0 if part == "nvjitlink" else 2,
    )


@rule("cuda-majors-mixed", layer="cuda", severity="warning")
def cuda_majors_mixed(stack: Stack, matrix: Matrix) -> Outcome:
    """One environment holds the libraries of two CUDA majors for one framework.

    Shows itself as undefined symbols (the wheels of both majors write the same files under
    site-packages/nvidia, the last one wins) or as the runtime of the other major being preloaded.

    Fix: uninstall NVIDIA's wheels of the major that the framework is not built for, then reinstall the rest.

    Source: file lists of NVIDIA's wheels; pytorch/pytorch issue 147001.
    """
    owned = {major(build.cuda): build for build in known_builds(stack) if build.cuda}
    by_part: dict[str, dict[int, tuple[str, str | None]]] = {}
    for (part, cuda_major), wheel in wheels(stack).items():
        by_part.setdefault(part, {})[cuda_major] = wheel
    mixed = {part: held for part, held in by_part.items() if len(held) > 1}
    for part, held in mixed.items():
        stray = min((number for number in held if number not in owned), default=min(held))
        keep = next(number for number in held if number != stray)
        strays = [each[stray][0] for each in mixed.values() if stray in each]
        # Their files are gone with those of the strays, which lay over them.
        again = [each[keep][0] for each in mixed.values() if stray in each and keep in each]
        both_used = all(number in owned for number in held)
        facts = [fact for build in owned.values() for fact in build.facts]
        yield Finding(
            subject=f"package.pip.{held[stray][0]}",
            message=f"{held[stray][0]} and {held[keep][0]} are both installed: one environment, two CUDA majors",
            evidence=(
                *(Evidence(f"package.pip.{name}", version) for name, version in held.values()),
                *(Evidence(address, value) for address, value in facts),
            ),
            fixes=(
                Fix(
                    address=f"package.pip.{held[stray][0]}",
                    to="removed",
                    message=f"pip uninstall {' '.join(strays)}, then reinstall {' '.join(again)}",
                    trial={f"package.pip.{name}": None for name in strays},
                ),
            ),
            source="file lists of NVIDIA's wheels (site-packages/nvidia/<part>/lib)",
            severity="note" if both_used else "warning",
            rank=1 if part not in ("nccl", "cudnn", "cuda-runtime") else 0,
        )
    yield from _loaded_majors(stack)


def _loaded_majors(stack: Stack) -> Outcome:
    """Find a framework whose search order ends at one library in two majors."""
    for library in LIBRARIES:
        for framework in dict.fromkeys(name for copy in stack.libraries(library) for name in copy.used_by):
            copies = [copy for copy in used(stack, library, framework) if copy.version]
            stems = {_stem(copy.soname or "") for copy in copies}
            # cuFFT's and cuSPARSE's numbers are their own, but one of two majors is from another CUDA all the same.
            if len({major(copy.version) for copy in copies}) > 1 and len(stems) == 1:
                yield Finding(
                    subject=f"library.{library}",
                    message=f"{framework} would load {library} in two majors: {' and '.join(map(where, copies))}",
                    evidence=tuple(library_evidence(stack, library, copies[0])),
                    severity="error",
                    source="ld.so(8), search order of shared objects",
                )


@rule("cuda-ptx-too-new", layer="cuda", needs=("driver.version|driver.cuda", FRAMEWORK))
def cuda_ptx_too_new(stack: Stack, matrix: Matrix) -> Outcome:
    """Code would be compiled on the machine from PTX that is newer than the driver understands.

    Shows itself as CUDA error 222, "the provided PTX was compiled with an unsupported toolchain". Minor-version
    compatibility covers machine code only: PTX of CUDA 12.4 needs a driver of CUDA 12.4.

    Fix: a newer driver, a build for the driver's CUDA, or one that holds machine code for the GPU.

    Source: CUDA Compatibility, minor version compatibility, limitations (PTX).
    """
    highest = series(stack.driver.compat) or driver_cuda(stack, matrix)
    if not highest:
        return
    for build in known_builds(stack):
        wanted = series(build.cuda)
        # An older major is driver-too-old-for-cuda's.
        if not wanted or "." not in (build.cuda or "") or wanted <= highest or wanted[0] > highest[0]:
            continue
        held = codes(build, stack, matrix)
        for device in devices(stack, matrix):
            capability = capability_of(device)
            if len(held) == 1 and held[0].kind != "limit" and capability and held[0].how(capability) == "ptx":
                yield _ptx_finding(
                    stack, wanted, highest, f"{build.label} holds only PTX for {device.label}",
                    [Evidence("gpu", [device.label]), *_built_with(build.name, stack)],
                    "error",
                )  # fmt: skip
                break
    for name, compiler in _PTX_MAKERS.items():
        yield from _makes_ptx(name, compiler, stack, highest)
    yield from _own_builds(stack, highest)


_PTX_MAKERS = {"numba": "NVVM", "numba-cuda": "NVVM", "openmm": "NVRTC"}
"""Programs that hand the driver PTX which a part of the toolkit makes (openmm/openmm issues 3585 and 3598)."""


def _makes_ptx(name: str, compiler: str, stack: Stack, highest: tuple[int, ...]) -> Outcome:
    """Find a program that compiles to PTX with a toolkit that is newer than the driver."""
    maker = stack.version_of(name)
    if maker is None or stack.environ.get("NUMBA_CUDA_ENABLE_MINOR_VERSION_COMPATIBILITY") == "1":
        return
    if name == "numba-cuda" and stack.version_of("numba"):
        return
    conda = next(
        (
            (f"package.conda.{name}", package.version)
            for name in ("cudatoolkit", "cuda-nvcc", "cuda-version")
            if (package := stack.conda(name)) and package.version
        ),
        None,
    )
    nvcc = active_nvcc(stack)
    if conda:
        fact, cuda = Evidence(*conda), conda[1]
    elif nvcc:
        fact, cuda = nvcc.evidence, nvcc.version
    else:
        return
    wanted = series(cuda)
    if wanted and wanted[0] == highest[0] and wanted > highest:
        yield _ptx_finding(
            stack, wanted, highest, f"{maker.name} compiles with the {compiler} of CUDA {dotted(wanted)}",
            [fact, Evidence(maker.address, maker.version)], "warning",
        )  # fmt: skip


def _own_builds(stack: Stack, highest: tuple[int, ...]) -> Outcome:
    """Tell that PTX made by the active nvcc is too new for the driver; machine code for the GPU is not."""
    nvcc = active_nvcc(stack)
    wanted = series(nvcc.version) if nvcc else ()
    if nvcc and wanted and 11 <= wanted[0] == highest[0] and wanted > highest:
        yield _ptx_finding(
            stack, wanted, highest, f"nvcc {nvcc.version} makes PTX of CUDA {dotted(wanted)}",
            [nvcc.evidence], "note",
        )  # fmt: skip


def _ptx_finding(
    stack: Stack,
    wanted: tuple[int, ...],
    highest: tuple[int, ...],
    why: str,
    evidence: Sequence[Evidence],
    severity: Severity,
) -> Finding:
    driver = stack.driver
    facts = [
        ("driver.cuda", driver.cuda),
        (stack.driver_address, driver.version),
        ("driver.compat", driver.compat),
    ]
    return Finding(
        subject="driver.cuda" if driver.cuda else stack.driver_address,
        message=f"{why}, and the driver understands PTX up to CUDA {dotted(highest)}, not {dotted(wanted)}",
        evidence=(*(Evidence(at, value) for at, value in facts if value), *evidence),
        fixes=(
            Fix(
                address="driver.cuda",
                to=f">={dotted(wanted)}",
                message=f"install a driver for CUDA {dotted(wanted)} or newer",
                trial={"driver.cuda": dotted(wanted), "driver.version": None, "driver.kernel_module": None},
            ),
        ),
        severity=severity,
        source="CUDA Compatibility, Minor Version Compatibility, limitations: PTX",
        quiet=severity == "note",
        rank=4 if severity == "note" else 1,
    )


@rule(
    "toolkit-framework-mismatch", layer="cuda", severity="warning", needs=("toolkit|compiler.nvcc", FRAMEWORK)
)
def toolkit_framework_mismatch(stack: Stack, matrix: Matrix) -> Outcome:
    """nvcc's CUDA and the one that PyTorch was built with differ, so extensions will not build or load.

    Shows itself as "The detected CUDA version (12.3) mismatches the version that was used to compile PyTorch
    (11.8)". PyTorch refuses another major (before 1.11 another minor as well); ready-made wheels do not care,
    so this only matters where extensions are compiled.

    Fix: point CUDA_HOME at a toolkit of the same major, or install the PyTorch build of the toolkit's CUDA.

    Source: PyTorch, torch/utils/cpp_extension.py, _check_cuda_version.
    """
    nvcc, build = active_nvcc(stack), stack.build("torch")
    if nvcc is None or build is None or not build.cuda:
        return
    have, want = series(nvcc.version), series(build.cuda)
    if not have or have == want or (have[0] == want[0] and "." not in build.cuda):
        return
    strict = have[0] != want[0] or (build.version is not None and series(build.version) < (1, 11))
    variables = [name for name in ("CUDA_HOME", "CUDA_PATH") if stack.environ.get(name)]
    # A toolkit that merely lies there harms nobody: a warning needs a sign that somebody builds, or a
    # report of a failure.
    matters = strict and (stack.partial or bool(variables))
    yield Finding(
        subject=nvcc.address,
        message=f"nvcc is of CUDA {nvcc.version} and {build.label} is built with CUDA {build.cuda}: "
        + ("extensions will not build" if strict else "extensions build, with a warning"),
        evidence=(
            nvcc.evidence,
            *(Evidence(address, value) for address, value in build.facts),
            *(Evidence(f"environ.{name}", stack.environ[name]) for name in variables),
        ),
        fixes=(
            Fix(
                address=nvcc.address,
                to=dotted(want),
                message=f"build with CUDA toolkit {dotted(want)} (CUDA_HOME)",
                trial=toolkit_trial(stack, dotted(want)),
            ),
            *_torch_for(build, dotted(have), stack, matrix),
        ),
        severity="warning" if matters else "note",
        source="PyTorch, torch/utils/cpp_extension.py, _check_cuda_version",
        rank=0 if strict else 4,
    )


def _torch_for(build: Build, cuda: str, stack: Stack, matrix: Matrix) -> tuple[Fix, ...]:
    """Offer the same PyTorch release for another CUDA, where there is such a build."""
    row = next(
        (
            row
            for row in matrix.rows("torch", "build")
            if row["cuda"] == cuda and series(row["version"]) == series(build.version)
        ),
        None,
    )
    if row is None or not build.version:
        return ()
    spelled = f"{build.version.split('+')[0]}+cu{cuda.replace('.', '')}"
    trial: dict[str, Any] = {"framework.torch.cuda": cuda, "framework.torch.version": spelled}
    if stack.pip("torch"):
        trial["package.pip.torch.version"] = spelled
    return (Fix("framework.torch.cuda", cuda, f"install torch {spelled}", trial),)


_COMPILER = re.compile(r"(?P<name>clang|gcc|g\+\+|cl|msvc)\D*?(?P<version>\d+(?:\.\d+)*)", re.IGNORECASE)
_NAMES: dict[str, Literal["gcc", "clang", "msvc"]] = {
    "g++": "gcc",
    "gcc": "gcc",
    "clang": "clang",
    "cl": "msvc",
    "msvc": "msvc",
}


@rule(
    "host-compiler-unsupported",
    layer="cuda",
    severity="warning",
    needs=("toolkit|compiler.nvcc", "compiler.gcc|compiler.cxx"),
)
def host_compiler_unsupported(stack: Stack, matrix: Matrix) -> Outcome:
    """The host compiler is newer (or older) than this nvcc supports.

    Shows itself as "#error -- unsupported GNU version! gcc versions later than 12 are not supported!" from
    host_config.h, or as errors inside the C++ library's headers. It matters where something is compiled.

    Fix: an older compiler for nvcc (NVCC_CCBIN, CUDAHOSTCXX, -ccbin), or a newer toolkit.

    Source: CUDA Installation Guide, host compiler support policy; host_config.h of each toolkit.
    """
    nvcc, host = active_nvcc(stack), _host_compiler(stack)
    if host is None or any(stack.environ.get(name) for name in ("NVCC_CCBIN", "CUDAHOSTCXX")):
        return
    if "allow-unsupported-compiler" in stack.environ.get("NVCC_PREPEND_FLAGS", "") + stack.environ.get(
        "NVCC_APPEND_FLAGS", ""
    ):
        return
    if nvcc is None:
        yield from _older_toolkits_refuse(*host, stack, matrix)
        return
    name, version, address, said = host
    cuda = dotted(series(nvcc.version))
    row = next(
        (
            row
            for row in matrix.rows("host_compiler", "host-compiler")
            if row["cuda"] == cuda and row["compiler"] == name
        ),
        None,
    )
    if row is None:
        if not any(each["cuda"] == cuda for each in matrix.rows("host_compiler", "host-compiler")):
            yield Unknown(needs=f"the host compilers that nvcc {cuda} supports")
        return
    side, bound = _outside(version, row, name)
    if not side:
        return
    yield Finding(
        subject=address,
        message=f"{name} {version} is too {side} for nvcc {nvcc.version}, which supports "
        + (f"{bound} at most" if side == "new" else f"{bound} or newer"),
        evidence=(Evidence(address, said), nvcc.evidence),
        fixes=(
            Fix(
                address=address,
                to=f"<={bound}" if side == "new" else f">={bound}",
                message=f"let nvcc use {name} {bound} (NVCC_CCBIN)",
                trial={address: bound if address == "compiler.gcc" else f"{name} {bound}"},
            ),
            *_toolkit_for(name, version, nvcc.address, stack, matrix),
        ),
        source=row["source"],
        rank=1,
    )


def _older_toolkits_refuse(
    name: str, version: str, address: str, said: str, stack: Stack, matrix: Matrix
) -> Outcome:
    """Say which toolkits a compiler is too new for, where a pasted report is about compiling and states none.

    It is about that if it names a toolkit without a version, or the compiler and no program that would use it.
    """
    toolkits = stack.manifest.toolkit
    about = (
        any(not each.version for each in toolkits) if toolkits else not (stack.frameworks or stack.packages)
    )
    first = _first_toolkit(name, version, matrix)
    if not stack.partial or not about or first is None:
        return
    cuda, source = first
    yield Finding(
        subject=address,
        message=f"{name} {version} is newer than any CUDA toolkit before {cuda} accepts; which toolkit compiles here "
        "is not stated",
        evidence=(Evidence(address, said),),
        source=source,
        severity="note",
        quiet=True,
        rank=4,
    )


def _host_compiler(stack: Stack) -> tuple[str, str, str, str] | None:
    """Return name, version, address and value of the compiler that nvcc would call."""
    compiler = stack.manifest.compiler
    if compiler.gcc:
        found = re.search(r"\d+(?:\.\d+)*", compiler.gcc)
        return ("gcc", found[0], "compiler.gcc", compiler.gcc) if found else None
    cxx = compiler.cxx or ""
    found = _COMPILER.search(cxx)
    return (_NAMES[found["name"].lower()], found["version"], "compiler.cxx", cxx) if found else None


def _outside(version: str, row: Any, name: str) -> tuple[str, str]:
    """Return ("new" | "old", the bound) for a compiler outside a row's range, ("", "") inside it."""
    parts = 2 if name == "msvc" else 1
    have = series(version, parts)
    if "max" in row and have > series(row["max"], parts):
        return "new", row["max"]
    if "min" in row and have < series(row["min"], parts):
        return "old", row["min"]
    return "", ""


def _toolkit_for(name: str, version: str, address: str, stack: Stack, matrix: Matrix) -> tuple[Fix, ...]:
    """Offer the first CUDA release that supports a compiler."""
    rows = [row for row in matrix.rows("host_compiler", "host-compiler") if row["compiler"] == name]
    fitting = [row["cuda"] for row in rows if not _outside(version, row, name)[0]]
    if not fitting:
        return ()
    cuda = min(fitting, key=series)
    return (
        Fix(address, f">={cuda}", f"build with CUDA toolkit {cuda} or newer", toolkit_trial(stack, cuda)),
    )


def _first_toolkit(name: str, version: str, matrix: Matrix) -> tuple[str, str] | None:
    """Return the first CUDA release that accepts so new a compiler, with its source; None where all do, or none."""
    rows = sorted(
        (
            row
            for row in matrix.rows("host_compiler", "host-compiler")
            if row["compiler"] == name and "max" in row
        ),
        key=lambda row: series(row["cuda"]),
    )
    refusing = [row for row in rows if _outside(version, row, name)[0] == "new"]
    accepting = [row for row in rows if _outside(version, row, name)[0] != "new"]
    if not refusing or not accepting:
        return None
    return accepting[0]["cuda"], accepting[0]["source"]


# ---- known defects -------------------------------------------------------------------------------------------


@rule("cuda-known-bad", layer="cuda", severity="warning")
def cuda_known_bad(stack: Stack, matrix: Matrix) -> Outcome:
    """A library or the assembler of this CUDA has a confirmed defect for this use.

    Shows itself as the row says: wrong products, CUBLAS_STATUS_EXECUTION_FAILED, memory that grows, or code that
    XLA's assembler (ptxas) compiled wrongly.

    Fix: the release that the row names as fixed; for PyTorch, whose wheels bring cuBLAS, a build of a later CUDA.

    Source: the release note or issue of each row (`envlock matrix cuda`).
    """
    for row in matrix.rows("cuda", "known-bad"):
        have = next(
            (
                each
                for each in _parts(row["part"], stack)
                if each.column in row and matches(each.version, row[each.column])
            ),
            None,
        )
        users = row.get("frameworks", ())
        used_here = not users or any(name in stack.frameworks or stack.package(name) for name in users)
        if have is None or not used_here or not known_bad_applies(row, stack, matrix):
            continue
        quiet = bool(row.get("quiet"))
        if quiet and have.inferred and not stack.partial:
            # A broad defect is worth no word where nobody reports a failure.
            continue
        label = {"cublas": "cuBLAS", "ptxas": "ptxas"}[row["part"]]
        name = f"{label} of CUDA {have.version}" if have.inferred else f"{label} {have.version}"
        yield Finding(
            subject=have.address,
            message=f"{name} has a known defect: {row['problem']} ({row['use']})"
            + (f"; fixed in {row['fixed_in']}" if "fixed_in" in row else ""),
            evidence=(
                Evidence(have.address, have.fact),
                *(
                    [Evidence("gpu", [device.label for device in devices(stack, matrix)])]
                    if "compute_capabilities" in row
                    else []
                ),
            ),
            severity="note" if quiet else row["severity"],
            quiet=quiet,
            rank=0 if not quiet else 8 if have.inferred else 6,
            source=row["source"],
            defect=row["problem"],
        )


class _Part(NamedTuple):
    """A part of CUDA as it is there: its own version, or the CUDA release that it must be of."""

    version: str
    column: Literal["versions", "cuda"]
    address: str
    fact: str

    @property
    def inferred(self) -> bool:
        """Tell whether only the CUDA release is known."""
        return self.column == "cuda"


def _parts(part: str, stack: Stack) -> Iterator[_Part]:
    """Yield a part by its own version, else by the CUDA of the framework or toolkit that brings it."""
    own = list(_own_parts(part, stack))
    yield from own
    if own:
        return
    if part == "ptxas":
        if nvcc := active_nvcc(stack):
            yield _Part(dotted(series(nvcc.version)), "cuda", nvcc.address, nvcc.version)
        return
    for build in known_builds(stack):
        if build.cuda and "." in build.cuda and build.facts:
            yield _Part(build.cuda, "cuda", *build.facts[0])


def _own_parts(part: str, stack: Stack) -> Iterator[_Part]:
    if part == "ptxas":
        found = next(
            (name for name in stack.manifest.package.pip if re.fullmatch(r"nvidia-cuda-nvcc(-cu\d+)?", name)),
            "",
        )
        package = stack.pip(found) if found else None
        if package and package.version:
            yield _Part(package.version, "versions", f"package.pip.{found}", package.version)
        return
    for copy in stack.libraries(part):
        if copy.version and copy.used_by:
            yield _Part(copy.version, "versions", f"library.{part}", copy.version)
    for (name, _), (package_name, version) in wheels(stack).items():
        if name == part and version:
            yield _Part(version, "versions", f"package.pip.{package_name}", version)
    conda = stack.conda(f"lib{part}")
    if conda and conda.version:
        yield _Part(conda.version, "versions", f"package.conda.lib{part}", conda.version)


# ---- a toolkit that is not there -----------------------------------------------------------------------------


_WITHOUT_NVCC = re.compile(
    r"(?:^|/)nvidia/cuda:\S*-(?:runtime|base)(?:-|$)|(?:^|/)pytorch/pytorch:\S*-runtime$"
)
"""Images that bring CUDA's libraries and no compiler, by their tags."""


@rule("toolkit-missing", layer="cuda", severity="note")
def toolkit_missing(stack: Stack, matrix: Matrix) -> Outcome:
    """No CUDA toolkit was found by a report of something that is to be compiled.

    Shows itself as "CUDA_HOME environment variable is not set. Please set it to your CUDA install root", "CUDA_HOME
    does not exist, unable to compile CUDA op(s)" or "nvcc: not found". NVIDIA's wheels, conda's cudatoolkit and the
    runtime flavours of images bring libraries and no compiler; to run, a framework needs none.

    Fix: a toolkit of the framework's CUDA, with CUDA_HOME naming it where it lies elsewhere than /usr/local/cuda;
    conda's cuda-nvcc; the devel flavour of an image.

    Source: PyTorch, torch/utils/cpp_extension.py, _find_cuda_home; NVIDIA's CUDA images, flavours.
    """
    if not stack.partial or stack.manifest.toolkit or active_nvcc(stack):
        return
    why, image = stack.unobserved("toolkit"), stack.manifest.container.image or ""
    if why is not None:
        text, fact = f"no CUDA toolkit was seen ({why})", Evidence("capture.unobserved.toolkit", why)
    elif _WITHOUT_NVCC.search(image):
        text, fact = f"the image {image} has no CUDA compiler", Evidence("container.image", image)
    else:
        return
    home = stack.environ.get("CUDA_HOME")
    yield Finding(
        subject="toolkit",
        message=f"{text}: CUDA extensions cannot be compiled without one",
        evidence=(fact, *([Evidence("environ.CUDA_HOME", home)] if home is not None else [])),
        source="PyTorch, torch/utils/cpp_extension.py, _find_cuda_home",
        quiet=True,
        # What the report itself says comes before defects of rare uses.
        rank=4,
    )
