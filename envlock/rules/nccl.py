"""Rules about NCCL: which copy is used, is it the framework's, and can the GPUs of one machine talk directly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from envlock.manifest.versions import series
from envlock.rules.cuda import (
    expected,
    held,
    install,
    library_evidence,
    shadows,
    unshadow,
    where,
)
from envlock.rules.cudnn import known_bad
from envlock.rules.engine import rule
from envlock.rules.gpus import devices
from envlock.rules.model import Evidence, Finding, Fix, Unknown

if TYPE_CHECKING:
    from envlock.matrix.loader import Matrix
    from envlock.rules.gpus import Device
    from envlock.rules.stack import Stack

Outcome = Iterator["Finding | Unknown"]

_NVLINKED = ("SXM", "HGX", "GB200", "GB300", "GH200", "B200", "B300", "NVL", "HBM3")
"""Parts of names of GPUs whose traffic goes over NVLink and NVSwitch, not through the PCIe root."""


def _users(stack: Stack) -> list[str]:
    names = [name for copy in stack.libraries("nccl") for name in copy.used_by]
    return list(dict.fromkeys([*names, *stack.frameworks, *(["torch"] if stack.package("torch") else [])]))


@rule("nccl-shadowed", layer="nccl")
def nccl_shadowed(stack: Stack, matrix: Matrix) -> Outcome:
    """Another NCCL wins over the one that the framework came with.

    Shows itself as "undefined symbol: ncclCommRegister" at import, or as ranks of different NCCL versions that
    hang. The system's or another framework's copy comes first, or is already loaded when it is asked for.

    Fix: take that folder off the search path (LD_LIBRARY_PATH, LD_PRELOAD), or remove the copy.

    Source: ld.so(8), search order; NVIDIA/nccl src/nccl.h.in at its release tags (the functions of each version).
    """
    built = {name: found[0] for name in _users(stack) if (found := expected(stack, "nccl", name, matrix))}
    for shadow in shadows(stack, "nccl", built)[:1]:
        want = built.get(shadow.framework) or shadow.own.version
        have = shadow.winner.version
        facts = expected(stack, "nccl", shadow.framework, matrix)
        older = bool(have and want) and series(have) < series(want)
        yield Finding(
            subject="library.nccl",
            message=f"{shadow.framework} loads NCCL {where(shadow.winner)} instead of its own {where(shadow.own)}",
            evidence=(
                *library_evidence(stack, "nccl", shadow.winner),
                *([Evidence(facts[1], facts[2])] if facts else []),
            ),
            fixes=unshadow(stack, shadow, "nccl"),
            severity="error" if older else "warning" if not (have and want) else "note",
            source="ld.so(8), search order of shared objects",
        )


@rule("nccl-mismatch", layer="nccl")
def nccl_mismatch(stack: Stack, matrix: Matrix) -> Outcome:
    """The NCCL that is used is older than the one that the framework was built with.

    Shows itself as "undefined symbol: nccl..." at import, or as missing functions at the first collective. A
    newer minor serves.

    Fix: install the NCCL that the framework pins, or a newer one.

    Source: NVIDIA/nccl src/nccl.h.in at the tags from v2.3.5-5 to v2.30.7-1 (functions are only added), src/Makefile
    (one soname, libnccl.so.2).
    """
    built = {name: found[0] for name in _users(stack) if (found := expected(stack, "nccl", name, matrix))}
    shadowed = {shadow.framework for shadow in shadows(stack, "nccl", built)}
    for name in _users(stack):
        wanted = expected(stack, "nccl", name, matrix)
        if wanted is None or name in shadowed:
            continue
        loaded = [
            have
            for have in held(stack, "nccl", matrix)
            if have.framework == name or (have.framework is None and have.address.startswith("package.pip."))
        ]
        older = [have for have in loaded if series(have.version) < series(wanted[0])]
        if len(older) < len(loaded) and not any(have.framework for have in loaded):
            # Wheels of two CUDA majors write the same file, and which was the last is not known.
            continue
        for have in older[:1]:
            yield Finding(
                subject=have.address,
                message=f"{name} was built with NCCL {wanted[0]} and loads the older {have.version}",
                evidence=(
                    *(
                        library_evidence(stack, "nccl", None)
                        if have.address == "library.nccl"
                        else [have.evidence]
                    ),
                    Evidence(wanted[1], wanted[2]),
                ),
                fixes=install(stack, "nccl", have, wanted[0]),
                source="NVIDIA/nccl src/nccl.h.in at its tags: functions are only added within NCCL 2",
            )


@rule("nccl-known-bad", layer="nccl", severity="warning")
def nccl_known_bad(stack: Stack, matrix: Matrix) -> Outcome:
    """This NCCL has a confirmed defect for this use.

    Shows itself as the row says: hangs, corruption, or errors at initialisation.

    Fix: the release that the row names as fixed, or its workaround.

    Source: the release note or issue of each row (`envlock matrix nccl`).
    """
    yield from known_bad(stack, matrix, "nccl", "NCCL")


@rule("peer-to-peer-hazard", layer="nccl", severity="warning", needs=("host.iommu|host.pcie_acs", "gpu"))
def peer_to_peer_hazard(stack: Stack, matrix: Matrix) -> Outcome:
    """GPUs talk directly over PCIe where the platform does not carry that, so collectives hang or corrupt data.

    Shows itself as a hang at the first collective with the GPUs at 100 %, that NCCL_P2P_DISABLE=1 cures. An
    active IOMMU or PCIe ACS sends the traffic through the root complex; GeForce cards from Ada on have no
    peer-to-peer at all, and several cards of a workstation often share a platform that never carried it.

    Fix: turn ACS and the IOMMU off (or to pass-through, iommu=pt) in BIOS and kernel; else NCCL_P2P_DISABLE=1.

    Source: NVIDIA/nccl docs/userguide/source/troubleshooting/gpu_troubleshooting.rst, PCI Access Control Services (ACS);
    NVIDIA/nccl issues 631 and 2079; NVIDIA/nccl-tests issue 117.
    """
    if stack.environ.get("NCCL_P2P_DISABLE") == "1" or stack.environ.get("NCCL_P2P_LEVEL") in ("LOC", "0"):
        return
    cards = devices(stack, matrix)
    total = sum(gpu.count or 1 for gpu in stack.gpus)
    if total < 2:
        return
    pcie = [device for device in cards if _over_pcie(device)]
    host = stack.manifest.host
    active = [
        (address, name)
        for address, name, value in (
            ("host.pcie_acs", "PCIe ACS", host.pcie_acs),
            ("host.iommu", "the IOMMU", host.iommu),
        )
        if value
    ]
    evidence = (
        *(Evidence(address, True) for address, _ in active),
        Evidence("gpu", [device.label for device in cards]),
        Evidence("environ.NCCL_P2P_DISABLE", stack.environ.get("NCCL_P2P_DISABLE")),
    )
    off = Fix(
        address="environ.NCCL_P2P_DISABLE",
        to="1",
        message="set NCCL_P2P_DISABLE=1 (slower, but it works)",
        trial={"environ.NCCL_P2P_DISABLE": "1"},
    )
    if active and pcie:
        names = " and ".join(name for _, name in active)
        yield Finding(
            subject=active[0][0],
            message=f"{names} {'are' if len(active) > 1 else 'is'} active: peer-to-peer traffic between {total} GPUs "
            f"({pcie[0].label}) goes through the root complex, where NCCL may hang",
            evidence=evidence,
            fixes=(
                Fix(
                    address=active[0][0],
                    to="off",
                    message=f"turn {names} off in the BIOS, or boot with iommu=pt",
                    trial={address: False for address, _ in active},
                ),
                off,
            )
            if not any(_unlinked(device) for device in cards)
            else (off,),
            # Where NVLink carries the traffic it does not matter; a virtual machine needs its IOMMU.
            severity="warning" if host.pcie_acs or any(_unlinked(device) for device in pcie) else "note",
            source="NCCL documentation, Troubleshooting, PCI Access Control Services (ACS)",
        )
    elif any(_unlinked(device) for device in cards):
        card = next(device for device in cards if _unlinked(device))
        yield Finding(
            subject="environ.NCCL_P2P_DISABLE",
            message=f"{total} GPUs ({card.label}) without NVSwitch share PCIe: where collectives hang, peer-to-peer "
            "does not work on this platform",
            evidence=evidence,
            fixes=(off,),
            severity="note",
            quiet=True,
            # After what is known of a stated NCCL: the cards alone prove least.
            rank=6,
            source="NVIDIA/nccl issues 631 and 2079; NVIDIA/nccl-tests issue 117",
        )


def _over_pcie(device: Device) -> bool:
    return not any(part in (device.name or "").upper() for part in _NVLINKED)


def _unlinked(device: Device) -> bool:
    """Tell whether a GPU is a workstation's or a GeForce card from Ampere on."""
    capability = series(device.capability)
    return device.line in ("workstation", "geforce") and bool(capability) and capability >= (8, 6)
