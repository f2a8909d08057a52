"""Which changes merely follow another: wheels that moved with their framework, dependencies pulled along."""

from __future__ import annotations

import re

import msgspec

from envlock.compare.model import Change
from envlock.manifest.model import Manifest
from envlock.manifest.requirements import parse_requirement
from envlock.manifest.versions import matches

_NVIDIA_WHEEL = re.compile(
    r"package\.(?:pip|conda)\.(nvidia-.+-cu\d+|nvidia-.+|cuda-(?!python).+|libcu.+|cudnn|nccl)\Z"
)
_CONDA_PROJECTS = {"torch": ("pytorch", "pytorch-gpu", "pytorch-cpu", "pytorch-mutex", "pytorch-cuda")}
_FOLLOWS = {
    "driver.version": ("driver.kernel_module", "driver.cuda", "driver.libcuda", "driver.fabric_manager"),
    "python.version": ("python.abi", "python.executable", "python.prefix", "python.openssl", "python.sqlite"),
    "os.version": ("os.libc", "os.libstdcxx", "host.kernel"),
    "toolkit": ("compiler.nvcc",),
}
"""Facts that come from one thing: its version first."""


def fold(changes: list[Change], mine: Manifest, theirs: Manifest) -> list[Change]:
    """Mark each change that merely follows another one with the address of that root."""
    by_address = {change.address: change for change in changes}
    roots: dict[str, str] = {}
    for leader, followers in _FOLLOWS.items():
        if leader in by_address:
            roots.update(
                {each: leader for each in followers if each in by_address and _agrees(by_address, each)}
            )
    _fold_frameworks(by_address, roots)
    _fold_nvidia(by_address, roots)
    _fold_libraries(by_address, roots)
    _fold_requirements(by_address, roots, mine, theirs)
    return [
        msgspec.structs.replace(change, folded_under=_top(roots, change.address))
        if change.address in roots
        else change
        for change in changes
    ]


def _agrees(by_address: dict[str, Change], follower: str) -> bool:
    """Tell whether a follower moved beside its leader; a kernel module left behind is news of its own."""
    change = by_address[follower]
    if follower not in ("driver.kernel_module", "driver.fabric_manager"):
        return True
    leader = by_address["driver.version"]
    return bool(change.before == leader.before and change.after == leader.after)


def _top(roots: dict[str, str], address: str) -> str:
    """Follow the folds to their root; a circle ends at the first address met twice."""
    seen = {address}
    while address in roots and roots[address] not in seen:
        address = roots[address]
        seen.add(address)
    return address


def _package_of(by_address: dict[str, Change], name: str) -> str | None:
    """Return the address of the change of the package that a framework is."""
    for candidate in (f"package.pip.{name}", f"package.conda.{name}"):
        if candidate in by_address:
            return candidate
    for conda in _CONDA_PROJECTS.get(name, ()):
        if f"package.conda.{conda}" in by_address:
            return f"package.conda.{conda}"
    return None


def _fold_frameworks(by_address: dict[str, Change], roots: dict[str, str]) -> None:
    for address in by_address:
        section, _, rest = address.partition(".")
        if section != "framework":
            continue
        name = rest.rpartition(".")[0]
        leader = _package_of(by_address, name) or f"framework.{name}.version"
        if leader in by_address and leader != address:
            roots[address] = leader


def _torch(by_address: dict[str, Change]) -> str | None:
    for name in ("torch", "jax", "jaxlib", "tensorflow"):
        leader = _package_of(by_address, name)
        if leader is None and f"framework.{name}.cuda" in by_address:
            leader = f"framework.{name}.cuda"
        if leader:
            return leader
    return None


def _fold_nvidia(by_address: dict[str, Change], roots: dict[str, str]) -> None:
    """CUDA wheels move because the framework that pins them moved; without such a move they are roots."""
    leader = _torch(by_address)
    if leader is None:
        return
    for address in by_address:
        if address != leader and (_NVIDIA_WHEEL.match(address) or address == "package.pip.triton"):
            roots.setdefault(address, leader)


def _fold_libraries(by_address: dict[str, Change], roots: dict[str, str]) -> None:
    for address, change in by_address.items():
        if not address.startswith("library."):
            continue
        copies = [*(change.before or ()), *(change.after or ())]
        providers = {str(copy.get("provider", "file")) for copy in copies}
        owners = {f"package.{p.replace(':', '.', 1)}" for p in providers if p.startswith(("pip:", "conda:"))}
        # Only when every copy belongs to packages that moved: a foreign copy is news of its own.
        if owners and len(owners) == len(providers) and any(owner in by_address for owner in owners):
            roots.setdefault(address, next(owner for owner in sorted(owners) if owner in by_address))


def _fold_requirements(
    by_address: dict[str, Change], roots: dict[str, str], mine: Manifest, theirs: Manifest
) -> None:
    """Fold a package under a changed one whose requirement forced it to move, on either side."""
    prefix = "package.pip."
    for address in by_address:
        if not address.startswith(prefix):
            continue
        name = address[len(prefix) :]
        for manifest, other in ((mine, theirs), (theirs, mine)):
            for wanted in map(parse_requirement, manifest.requires.get(name, ())):
                if wanted is None:
                    continue
                follower = prefix + wanted.name
                if follower == address or follower not in by_address or follower in roots:
                    continue
                if _forced(wanted.name, wanted.specifier, manifest, other) and not _leads_to(
                    roots, address, follower
                ):
                    roots[follower] = address


def _forced(name: str, bounds: str, own: Manifest, other: Manifest) -> bool:
    """Tell whether a requirement is met on its own side and would not have been by the other side's version."""
    here, there = own.package.pip.get(name), other.package.pip.get(name)
    if here is None or (bounds and matches(here.version, bounds) is not True):
        return False
    return there is None or (bool(bounds) and matches(there.version, bounds) is False)


def _leads_to(roots: dict[str, str], address: str, follower: str) -> bool:
    while address in roots:
        address = roots[address]
        if address == follower:
            return True
    return False
