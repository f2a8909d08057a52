"""Which changes merely follow another: wheels that moved with their framework, dependencies pulled along."""

from __future__ import annotations

import re

import msgspec

from envlock.compare.model import Change
from envlock.manifest.model import Manifest, PipPackage
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
        bounds = (_bounds(mine, name), _bounds(theirs, name))
        for wanted in bounds[0].keys() | bounds[1].keys():
            follower = prefix + wanted
            if follower == address or follower not in by_address or follower in roots:
                continue
            pulled = _pulled_along(wanted, mine, theirs, bounds[0].get(wanted), bounds[1].get(wanted))
            if pulled and not _leads_to(roots, address, follower):
                roots[follower] = address


def _bounds(manifest: Manifest, name: str) -> dict[str, str]:
    """Return what a package requires: name -> specifier."""
    found = map(parse_requirement, manifest.requires.get(name, ()))
    return {each.name: each.specifier for each in found if each is not None}


def _pulled_along(name: str, mine: Manifest, theirs: Manifest, ours: str | None, other: str | None) -> bool:
    """Tell whether a package had to move: each side meets its own requirement, and one not the other's."""
    one, two = mine.package.pip.get(name), theirs.package.pip.get(name)
    meets = [_meets(one, ours), _meets(two, other)]
    if False in meets:
        return False
    if one is None or two is None:
        # It came, or went, with the one that asks for it.
        return (ours is None) == (one is None) and (other is None) == (two is None)
    if None in meets:
        return False
    return _meets(two, ours) is False or _meets(one, other) is False


def _meets(package: PipPackage | None, bounds: str | None) -> bool | None:
    if package is None or bounds is None:
        return None
    return True if not bounds else matches(package.version, bounds)


def _leads_to(roots: dict[str, str], address: str, follower: str) -> bool:
    while address in roots:
        address = roots[address]
        if address == follower:
            return True
    return False
