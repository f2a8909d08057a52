"""Rules about compiled extensions: were they built for this framework, CUDA, C++ ABI and Python."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from envlock.manifest.requirements import parse_requirement
from envlock.manifest.versions import dotted, matches, release, series, version
from envlock.rules.engine import rule
from envlock.rules.framework import (
    TORCH_COMPANIONS,
    Outcome,
    differs,
    facts_of,
    is_release,
    public,
    version_trial,
)
from envlock.rules.model import Evidence, Finding, Fix

if TYPE_CHECKING:
    from envlock.matrix.loader import Matrix
    from envlock.rules.stack import Installed, Stack


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
            pinned = list(_pinned_torch(name, held, stack, matrix))
            yield from pinned or _no_wheel_for(name, held, stack)


def _no_wheel_for(name: str, held: Installed, stack: Stack) -> Iterator[Finding]:
    """Say that no wheel is made for a torch that is no release: NVIDIA's own build, a nightly."""
    torch = stack.version_of("torch")
    if not stack.partial or held.manager != "pip" or torch is None or not torch.version:
        return
    if is_release(torch.version):
        return
    label = f"{held.name} {held.version}" if held.version else held.name
    yield Finding(
        subject=held.address,
        message=f"the wheels of {label} are built against releases of torch, and torch {torch.version} is none: only "
        "a build from source fits it",
        evidence=(Evidence(held.address, held.version), Evidence(torch.address, torch.version)),
        source="PyTorch, C++ ABI: none is promised between builds; Dao-AILab/flash-attention#784",
        severity="note",
        quiet=True,
        rank=6,
    )


def _misfits(name: str, held: Installed | None, stack: Stack) -> Iterator[Finding]:
    label = f"{name} {held.version}" if held and held.version else name
    for target in _targets(name, held, stack):
        have = _have(target.what, stack)
        if have is None:
            continue
        near = any(_fits(target.what, wanted, have.version) for wanted in target.wanted)
        checked = target.what == "cuda" and _CHECKS_CUDA.fullmatch(name)
        if near and not (checked and differs(target.wanted[0], have.version, 2)):
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
        return _Have(held.version, f"{what} {held.version}", facts_of(what, held, stack))
    versions = [copy.version for copy in stack.libraries(what) if copy.version]
    if len(versions) == 1:
        return _Have(versions[0], f"{what} {versions[0]}", (Evidence(f"library.{what}", versions[0]),))
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


def _fits(what: str, wanted: str, have: str) -> bool:
    if what == "torch":
        return not is_release(have) or not differs(wanted, have, 2)
    if what == "cuda":
        return not differs(wanted, have, 1)
    if what == "python":
        tag = re.fullmatch(r"(?:cp|py)?(\d)(\d{1,2})t?", wanted)
        return not differs(f"{tag[1]}.{tag[2]}" if tag else wanted, have, 2)
    return not differs(wanted, have, 4)


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
        trial[f"{package.address}.version"] = public(package.version)
    if package and package.build:
        trial[f"{package.address}.build"] = None
    if framework and framework.version:
        trial[f"framework.{name}.version"] = public(framework.version)
    if framework:
        trial |= {f"framework.{name}.built_for": {}, f"framework.{name}.cuda": None,
                  f"framework.{name}.cxx11_abi": None}  # fmt: skip
    return trial


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
            *(facts_of("torch", version_of_torch, stack) if version_of_torch else ()),
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
    row = next((row for row in rows if version(row["version"]) == version(public(held.version))), None)
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
                *facts_of("torch", torch, stack),
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
            evidence=(Evidence(held.address, held.version), *facts_of("torch", torch, stack)),
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
