"""Rules about cuDNN: which copy is used, is it one that the framework, the CUDA and the GPU go with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from envlock.manifest.versions import major, matches, release, series
from envlock.rules.cuda import (
    comes_with,
    expected,
    held,
    install,
    library_evidence,
    loads_wheels,
    shadows,
    to_plain_copy,
    unshadow,
    used,
    wheels,
    where,
)
from envlock.rules.driver import known_bad_applies
from envlock.rules.engine import rule
from envlock.rules.gpu import capability_of
from envlock.rules.gpus import devices
from envlock.rules.model import Evidence, Finding, Fix, Unknown

if TYPE_CHECKING:
    from envlock.manifest.model import Library
    from envlock.matrix.loader import Matrix
    from envlock.rules.cuda import Held
    from envlock.rules.stack import Stack

Outcome = Iterator["Finding | Unknown"]

_COMPATIBLE = (
    "cuDNN documentation, API compatibility: a newer minor of the same major serves, an older one does not"
)


def _users(stack: Stack) -> list[str]:
    """Return what loads cuDNN, as far as copies, frameworks and packages say."""
    names = [name for copy in stack.libraries("cudnn") for name in copy.used_by]
    return list(dict.fromkeys([*names, *stack.frameworks, *(["torch"] if stack.package("torch") else [])]))


def _built(stack: Stack, matrix: Matrix) -> dict[str, str]:
    """Return the cuDNN that each of them was built with, where that is known."""
    return {name: found[0] for name in _users(stack) if (found := expected(stack, "cudnn", name, matrix))}


def misfit(have: str, want: str, framework: str) -> str:
    """Say how a loaded cuDNN fails one that was built against: "major", "older", "other"; "" where it serves.

    From cuDNN 7 on a newer minor serves. TensorFlow built with 7.0, PyTorch before 1.0 (built with 7.1 at most) and
    all before cuDNN 7 ask for the same minor.
    """
    one, two = release(have), release(want)
    if not one or not two or one[0] != two[0]:
        return "major" if one and two else ""
    if len(one) < 2 or len(two) < 2 or one[1] == two[1]:
        return ""
    if one[1] < two[1]:
        return "older"
    strict = two[0] < 7 or two[:2] <= {"tensorflow": (7, 0), "torch": (7, 1)}.get(framework, (0,))
    return "other" if strict else ""


@rule("cudnn-shadowed", layer="cudnn")
def cudnn_shadowed(stack: Stack, matrix: Matrix) -> Outcome:
    """Another cuDNN wins over the one that the framework came with.

    Shows itself as "cuDNN version incompatibility: PyTorch was compiled against (8, 3, 2) but linked against
    (8, 0, 3)", "Loaded runtime CuDNN library ... but source was compiled with", or
    CUDNN_STATUS_NOT_INITIALIZED. LD_LIBRARY_PATH, a module or the system's copy comes first.

    Fix: take that folder off the search path; remove the copy that nothing needs.

    Source: ld.so(8), search order; pytorch/pytorch issue 80637.
    """
    built = _built(stack, matrix)
    for shadow in shadows(stack, "cudnn", built)[:1]:
        want = built.get(shadow.framework) or shadow.own.version
        problem = misfit(shadow.winner.version or "", want or "", shadow.framework)
        unclear = not shadow.winner.version or not want
        facts = expected(stack, "cudnn", shadow.framework, matrix)
        yield Finding(
            subject="library.cudnn",
            message=f"{shadow.framework} loads cuDNN {where(shadow.winner)} instead of its own {where(shadow.own)}",
            evidence=(
                *library_evidence(stack, "cudnn", shadow.winner),
                *([Evidence(facts[1], facts[2])] if facts else []),
            ),
            fixes=unshadow(stack, shadow, "cudnn"),
            severity="error" if problem else "warning" if unclear else "note",
            source="ld.so(8), search order of shared objects; " + _COMPATIBLE,
        )


@rule("cudnn-mismatch", layer="cudnn")
def cudnn_mismatch(stack: Stack, matrix: Matrix) -> Outcome:
    """The cuDNN that is used is not one that the framework was built for.

    Shows itself as "Loaded runtime CuDNN library: 9.10.1 but source was compiled with: 9.13.1", "Could not
    load library libcudnn_ops_infer.so.8" (another major), or "cudnn_ops64_9.dll is not found". The major must
    be the same and the minor at least that of the build.

    Fix: install the cuDNN that the framework was built with, or a newer minor of the same major.

    Source: cuDNN documentation, API compatibility; version checks in PyTorch and XLA.
    """
    shadowed = {shadow.framework for shadow in shadows(stack, "cudnn", _built(stack, matrix))}
    for name in _users(stack):
        wanted = expected(stack, "cudnn", name, matrix)
        if wanted is None or name in shadowed:
            continue
        for have in _in_use(stack, name, matrix):
            problem = misfit(have.version, wanted[0], name)
            if problem:
                yield _mismatch(stack, name, have, wanted, problem)
                break
    yield from _jax_needs(stack, matrix)


def _in_use(stack: Stack, framework: str, matrix: Matrix) -> list[Held]:
    """Return the versions that one framework would load, only where this is more than its own word."""
    found = held(stack, "cudnn", matrix)
    own = [each for each in found if each.framework == framework and each.address == "library.cudnn"]
    if own:
        return own
    alone = [each for each in found if each.framework is None and each.address == "library.cudnn"]
    if alone and stack.partial and _loads_the_system(stack, framework):
        return alone
    if framework in ("torch", "jax", "tensorflow"):
        build = stack.build(framework)
        cuda = major(build.cuda) if build and build.cuda else None
        if framework == "torch" and not loads_wheels(stack, "torch", "cudnn"):
            return []
        return [
            each
            for each in found
            if each.framework is None
            and each.address.startswith("package.pip." if framework == "torch" else "package.")
            and (
                cuda is None
                or not each.address.startswith("package.pip.")
                or each.address.endswith(f"-cu{cuda}")
            )
        ]
    if any(each.address == "library.cudnn" for each in found):
        return []
    # An extension loads the cuDNN that PyTorch has brought into the process.
    return [each for each in found if each.framework in ("torch", None)]


def _loads_the_system(stack: Stack, framework: str) -> bool:
    """Tell whether the only copy of a pasted report is what a framework loads, as nothing says that it has another.

    PyTorch brings its own, so that there the report has to state the cuDNN of the build beside the copy.
    """
    if any(part == "cudnn" for part, _ in wheels(stack)) or stack.conda("cudnn") or stack.conda("libcudnn"):
        return False
    facts = stack.framework(framework)
    return framework in ("tensorflow", "jax") or bool(facts and facts.cudnn)


def _mismatch(stack: Stack, name: str, have: Held, wanted: tuple[str, str, Any], problem: str) -> Finding:
    label = {"major": "of another major", "older": "of an older minor", "other": "of another minor"}[problem]
    build = stack.build(name)
    facts = [fact for fact in build.facts if fact[0] != wanted[1]] if build else []
    return Finding(
        subject=have.address,
        message=f"{build.label if build else name} was built with cuDNN {wanted[0]} and loads {have.version}, "
        f"which is {label}",
        evidence=(
            *(library_evidence(stack, "cudnn", None) if have.address == "library.cudnn" else [have.evidence]),
            Evidence(wanted[1], wanted[2]),
            *(Evidence(address, value) for address, value in facts),
        ),
        fixes=install(stack, "cudnn", have, wanted[0], exact=problem == "other"),
        # A wheel that only another framework pulled in may not be what this one loads.
        severity="error"
        if (have.address == "library.cudnn" and have.framework == name) or wanted[1].startswith("requires.")
        else "warning",
        source=_COMPATIBLE,
    )


def _jax_needs(stack: Stack, matrix: Matrix) -> Outcome:
    """Hold the cuDNN of wheels or of conda against what this JAX release asks for; PyTorch's pin often pulls it down."""
    jax = stack.version_of("jaxlib") or stack.version_of("jax")
    wheel = wheels(stack).get(("cudnn", 12))
    build = stack.build("jax")
    conda = next((name for name in ("cudnn", "libcudnn") if stack.conda(name)), None)
    if jax is None or build is None or build.cuda == "" or expected(stack, "cudnn", "jax", matrix):
        return
    if wheel and wheel[1] and any(name.startswith("jax-cuda12") for name in stack.packages):
        address, version = f"package.pip.{wheel[0]}", wheel[1]
    elif conda and jax.manager == "conda":
        address, version = f"package.conda.{conda}", stack.manifest.package.conda[conda].version or ""
    else:
        return
    rows = [
        row for row in matrix.rows("jax", "release") if series(row["version"], 3) <= series(jax.version, 3)
    ]
    row = max(rows, key=lambda each: series(each["version"], 3), default=None)
    specifier = row.get("cuda12_cudnn", "") if row else ""
    if row and specifier and version and matches(version, specifier) is False:
        yield Finding(
            subject=address,
            message=f"jax {jax.version} needs cuDNN {specifier}, and {version} is installed",
            evidence=(Evidence(address, version), Evidence(jax.address, jax.version)),
            source=row["source"],
        )


@rule("cudnn-sublibraries-mixed", layer="cudnn")
def cudnn_sublibraries_mixed(stack: Stack, matrix: Matrix) -> Outcome:
    """Sublibraries of one cuDNN come from different versions.

    Shows itself as CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH, CUDNN_STATUS_NOT_INITIALIZED or a crash at the
    first convolution: from cuDNN 8 on the library is split, and its parts are opened one by one along the
    search path, so that some come from the wheel and some from the system.

    Fix: leave one cuDNN on the search path: remove the system's copy, or take it out of LD_LIBRARY_PATH.

    Source: cuDNN documentation, error codes; pytorch/pytorch issue 104808.
    """
    for name in dict.fromkeys(name for copy in stack.libraries("cudnn") for name in copy.used_by):
        copies = used(stack, "cudnn", name)
        if len(copies) < 2:
            continue
        versions = {series(copy.version, 3) for copy in copies if copy.version}
        known = all(copy.version for copy in copies)
        if len(versions) < 2 and (known or len({_origin(copy) for copy in copies}) < 2):
            continue
        parts = ", ".join(f"{copy.soname + ' ' if copy.soname else ''}{where(copy)}" for copy in copies[:4])
        yield Finding(
            subject="library.cudnn",
            message=f"{name} would mix the parts of several cuDNNs: {parts}",
            evidence=tuple(library_evidence(stack, "cudnn", _stranger(copies, name))),
            fixes=_one_copy(stack, copies, name),
            source="cuDNN documentation, cudnnStatus_t: CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH",
        )


def _origin(copy: Library) -> str:
    return copy.provider or (copy.path or "").rpartition("/")[0]


def _stranger(copies: list[Library], framework: str) -> Library:
    """Return the copy that does not belong to the framework, the last one if all look alike."""
    return next((copy for copy in copies if not comes_with(copy, framework)), copies[-1])


def _one_copy(stack: Stack, copies: list[Library], framework: str) -> tuple[Fix, ...]:
    stranger = _stranger(copies, framework)
    kept = [copy for copy in copies if _origin(copy) != _origin(stranger)]
    left = [to_plain_copy(copy) for copy in stack.libraries("cudnn") if copy not in copies or copy in kept]
    if not kept:
        return ()
    return (
        Fix(
            address="library.cudnn",
            to=f"only {where(kept[0])}",
            message=f"remove cuDNN {where(stranger)}, or keep it off the search path",
            trial={"library.cudnn": left},
        ),
    )


@rule("cudnn-cuda-mismatch", layer="cudnn")
def cudnn_cuda_mismatch(stack: Stack, matrix: Matrix) -> Outcome:
    """This cuDNN is built for another CUDA major than the framework that loads it.

    Shows itself as "libcublas.so.11: cannot open shared object file" from inside cuDNN, undefined symbols, or
    CUDNN_STATUS_NOT_INITIALIZED.

    Fix: the same cuDNN for the framework's CUDA (nvidia-cudnn-cu12, libcudnn9-cuda-12, conda's build).

    Source: cuDNN Support Matrix: packages by CUDA major.
    """
    for copy in stack.libraries("cudnn"):
        said = _cuda_of(copy, stack)
        for name in copy.used_by:
            build = stack.build(name)
            want = major(build.cuda) if build and build.cuda else None
            if said is None or want is None or said[0] == want or build is None:
                continue
            yield Finding(
                subject="library.cudnn",
                message=f"cuDNN {where(copy)} is built for CUDA {said[0]}, and {build.label} for CUDA {build.cuda}",
                evidence=(
                    *library_evidence(stack, "cudnn", copy),
                    *([Evidence(said[1], said[2])] if said[1] != "library.cudnn" else []),
                    *(Evidence(address, value) for address, value in build.facts),
                ),
                source="cuDNN Support Matrix: packages by CUDA major",
            )


def _cuda_of(copy: Library, stack: Stack) -> tuple[int, str, str] | None:
    """Return the CUDA major that a copy was built for, and the fact that says so."""
    number = major(copy.cuda)
    if number is not None and copy.cuda:
        return number, "library.cudnn", copy.cuda
    manager, _, name = (copy.provider or "").partition(":")
    texts = [("library.cudnn", name)]
    if manager == "conda" and (package := stack.conda(name)):
        texts.append((f"package.conda.{name}", package.build or ""))
    if manager in ("deb", "rpm"):
        texts.append((f"package.system.{name}", stack.manifest.package.system.get(name, "")))
    for address, text in texts:
        if found := re.search(r"(?:[-_+]cu(?:da)?-?|^cuda_?)(1[0-9])", text):
            return int(found[1]), address, text
    return None


@rule("cudnn-gpu-unsupported", layer="cudnn")
def cudnn_gpu_unsupported(stack: Stack, matrix: Matrix) -> Outcome:
    """This cuDNN does not support the GPU: it dropped the old one, or does not know the new one.

    Shows itself as CUDNN_STATUS_ARCH_MISMATCH, "no engine found", or
    "GET was unable to find an engine to execute this computation".

    Fix: cuDNN 9.10 or older for GPUs before Turing; a newer one for newer GPUs than it has code for.

    Source: cuDNN Support Matrix, GPUs by release.
    """
    gpus = devices(stack, matrix)
    for have in held(stack, "cudnn", matrix):
        rows = _release_rows(have, stack, matrix)
        for device in gpus:
            capability = capability_of(device)
            if capability is None or not rows:
                continue
            if all("capability_min" in row and capability < series(row["capability_min"]) for row in rows):
                oldest = min((row["capability_min"] for row in rows), key=series)
                bound = f"its oldest GPUs are of compute capability {oldest}"
            elif all(
                "capability_max_major" in row and capability[0] > int(row["capability_max_major"])
                for row in rows
            ):
                newest = max(int(row["capability_max_major"]) for row in rows)
                bound = f"its newest GPUs are of compute capability {newest}.x"
            else:
                continue
            older = "oldest" in bound
            yield Finding(
                subject=have.address,
                message=f"cuDNN {have.version} does not support {device.label}: {bound}",
                evidence=(have.evidence, Evidence("gpu", [device.label])),
                fixes=_supporting(stack, have, capability, matrix, older=older),
                # Newer GPUs may still be reached through PTX.
                severity="error" if older and len(gpus) == 1 else "warning",
                source=rows[0]["source"],
                rank=1,
            )
            break


def _release_rows(have: Held, stack: Stack, matrix: Matrix) -> list[Any]:
    rows = [row for row in matrix.rows("cudnn", "release") if matches(have.version, row["versions"])]
    build = stack.build(have.framework or "torch")
    wanted = major(build.cuda) if build and build.cuda else None
    exact = [row for row in rows if wanted is not None and row["cuda_major"] == str(wanted)]
    return exact or rows


def _supporting(
    stack: Stack, have: Held, capability: tuple[int, int], matrix: Matrix, *, older: bool
) -> tuple[Fix, ...]:
    """Offer the newest listed release of the same major that has code for a GPU; what is newer dropped an old one."""
    for row in reversed(matrix.rows("cudnn", "release")):
        low, high = row.get("capability_min"), row.get("capability_max_major")
        first = re.search(r">=\s*(\d+(?:\.\d+)*)", row["versions"])
        if not low or not high or not first or major(first[1]) != major(have.version):
            continue
        if series(low) <= capability and capability[0] <= int(high):
            return install(stack, "cudnn", have, first[1], exact=older)
    return ()


@rule("cudnn-known-bad", layer="cudnn", severity="warning")
def cudnn_known_bad(stack: Stack, matrix: Matrix) -> Outcome:
    """This cuDNN has a confirmed defect for this use.

    Shows itself as the row says: wrong values, illegal memory accesses, missing plans, or memory that grows.

    Fix: the release that the row names as fixed.

    Source: the release note or issue of each row (`envlock matrix cudnn`).
    """
    yield from known_bad(stack, matrix, "cudnn", "cuDNN")


def known_bad(stack: Stack, matrix: Matrix, library: str, label: str) -> Outcome:
    """Yield the defects that a library in use has by the matrix; NCCL's layer asks as well."""
    told = set()
    for have in held(stack, library, matrix):
        for row in matrix.rows(library, "known-bad"):
            if not matches(have.version, row["versions"]) or not known_bad_applies(row, stack, matrix):
                continue
            if (have.address, row["problem"]) in told or (
                row.get("quiet") and _far(have, row, library, stack)
            ):
                continue
            told.add((have.address, row["problem"]))
            when = f" ({row['when']})" if "when" in row else ""
            yield Finding(
                subject=have.address,
                message=f"{_which(label, have.version)} a known defect: {row['problem']}{when}"
                + (f"; fixed in {row['fixed_in']}" if "fixed_in" in row else "")
                + (f"; until then {row['workaround']}" if "workaround" in row else ""),
                evidence=(
                    have.evidence,
                    *(each for each in _conditions(row, stack, matrix) if each != have.evidence),
                ),
                fixes=_sound(stack, have, row, library, matrix),
                severity="note" if row.get("quiet") else row["severity"],
                quiet=bool(row.get("quiet")),
                # What a report states of the library is nearer than what its torch must have brought.
                rank=0 if not row.get("quiet") else 7 if have.build else 5,
                source=row["source"],
                defect=row["problem"],
            )


def _which(label: str, version: str) -> str:
    """Say what has a defect: a version, or some of a major of which no more is known."""
    return (
        f"{label} {version} has"
        if "." in version
        else f"{label} {version} (its minor is not stated) may have"
    )


def _sound(stack: Stack, have: Held, row: Any, library: str, matrix: Matrix) -> tuple[Fix, ...]:
    """Offer the first release from the row's fixed one on that has no other defect but of rare uses for this stack."""
    fixed: str | None = row.get("fixed_in")
    for _ in range(16):
        if fixed is None:
            return ()
        bad = next(
            (
                each
                for each in matrix.rows(library, "known-bad")
                if matches(fixed, each["versions"])
                and not each.get("quiet")
                and known_bad_applies(each, stack, matrix)
            ),
            None,
        )
        if bad is None:
            return install(stack, library, have, fixed)
        fixed = bad.get("fixed_in")
    return ()


def _far(have: Held, row: Any, library: str, stack: Stack) -> bool:
    """Tell whether a broad defect is too far from this stack: a version that is only inferred, or a lone GPU."""
    inferred = have.address.startswith("framework.") and not have.address.endswith(f".{library}")
    alone = bool(stack.gpus) and sum(gpu.count or 1 for gpu in stack.gpus) < 2 and not stack.partial
    return (inferred and "torch" not in row) or (library == "nccl" and alone)


def _conditions(row: Any, stack: Stack, matrix: Matrix) -> list[Evidence]:
    """Return the further facts that a row's conditions rest on."""
    evidence = []
    if "compute_capabilities" in row or "min_gpus" in row:
        evidence.append(Evidence("gpu", [device.label for device in devices(stack, matrix)]))
    if "arch" in row:
        evidence.append(Evidence("host.arch", stack.manifest.host.arch))
    if row.get("rdma"):
        evidence.append(Evidence("host.rdma", stack.manifest.host.rdma))
    torch = stack.version_of("torch")
    if "torch" in row and torch:
        evidence.append(Evidence(torch.address, torch.version))
    return [
        *evidence,
        *(Evidence(f"environ.{name}", value) for name, value in row.get("environ", {}).items()),
    ]
