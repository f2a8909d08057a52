"""Rules about the machines of one job: what must be the same on all of them, NCCL first of all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from envlock.manifest.node_names import PARTS_SHOWN, fold
from envlock.manifest.versions import dotted, series
from envlock.rules.cuda import Held, held
from envlock.rules.engine import Kind, Odd, fleet_rule
from envlock.rules.model import Evidence, Finding

if TYPE_CHECKING:
    from envlock.matrix.loader import Matrix
    from envlock.rules.stack import Stack

FRAMEWORKS = ("torch", "jax", "tensorflow", "paddle")
"""Frameworks that run one job on many machines."""

VALUES_SHOWN = 3
"""Odd values that a message names; the nodes with others are counted."""

OWN_VARIABLES = re.compile(r"NCCL_(?:DEBUG(?:_|\Z)|HOSTID\Z|COMM_ID\Z)|NCCL_\w*_?(?:FILE|DIR)\Z")
"""NCCL's variables for one node or for what is written down; they change nothing between nodes."""

DEVICE_VARIABLES = ("NCCL_SOCKET_IFNAME", "NCCL_IB_HCA")
"""Variables that name a machine's devices, which may be called differently on each."""

_BUILD = re.compile(r"\+(?:cu\d+|cpu)\Z")

NOT_THERE = "none"
UNSET = "not set"


class Value(NamedTuple):
    """What one kind of node holds: what is compared, and how it is said."""

    key: object
    shown: str


class _Topic(NamedTuple):
    """A fact that must be the same on all nodes: its address, how it is said, and how bad a difference is."""

    address: str
    words: str
    """With ``{}`` for the value."""
    severity: Literal["error", "warning", "note"]
    values: list[Value | None]
    """One for each kind; None where it is not known."""
    why: str = ""


@fleet_rule("nodes-differ", severity="warning")
def nodes_differ(kinds: Sequence[Kind], matrix: Matrix) -> Iterator[Odd]:
    """The machines of one job differ in what must be the same on all of them, NCCL first of all.

    Shows itself as "Mismatched NCCL version detected" or ncclInvalidUsage at the first collective, as ranks that
    hang there, or as a job that fails only when the scheduler hands it a certain node. Compared are NCCL, driver,
    CUDA, framework, GPUs, fabric manager, NCCL's variables, container image and kernel. Different NCCL is an error;
    a different kernel, or another name of a network device, is a note.

    Fix: bring the odd nodes to what the others have, or keep them out of the job (Slurm: --exclude, a feature).

    Source: NVIDIA/nccl src/init.cc, initTransportsRank (from 2.23.4 on it refuses ranks of different versions);
    NVIDIA/nccl issue 286: the versions must match; issue 260: its variables must be exported to all nodes.
    """
    for topic in _topics([kind.stack for kind in kinds], matrix):
        odd = _odd(topic, kinds)
        if odd is not None:
            yield odd


def _topics(stacks: Sequence[Stack], matrix: Matrix) -> Iterator[_Topic]:
    """Yield what is compared, in order of importance."""

    def each(read: Callable[[Stack], Value | None]) -> list[Value | None]:
        return [read(stack) for stack in stacks]

    frameworks = [name for name in FRAMEWORKS if any(stack.version_of(name) for stack in stacks)]
    for name in frameworks:
        whose = f" of {name}" if len(frameworks) > 1 else ""
        found = [_nccl(stack, name, matrix) for stack in stacks]
        address = next((each.address for each in found if each), "library.nccl")
        yield _Topic(address, f"NCCL{whose} {{}}", "error", [_release(each) for each in found],
                     "NCCL refuses a communicator across different versions")  # fmt: skip
    yield _Topic("driver.version", "driver {}", "warning", each(_driver))
    for name in frameworks:
        address = f"framework.{name}"
        yield _Topic(f"{address}.version", f"{name} {{}}", "warning",
                     each(lambda stack, name=name: _framework(stack, name)))  # type: ignore[misc]  # fmt: skip
        yield _Topic(f"{address}.cuda", f"CUDA {{}} of {name}", "warning",
                     each(lambda stack, name=name: _cuda(stack, name)))  # type: ignore[misc]  # fmt: skip
    yield _Topic("gpu", "GPU {}", "warning", each(_gpu_model))
    yield _Topic("gpu.count", "{} GPUs", "warning", each(_gpu_count))
    yield _Topic(
        "driver.fabric_manager", "fabric manager {}", "warning", each(_fact("driver", "fabric_manager"))
    )
    for name in sorted({name for stack in stacks for name in stack.environ if _is_shared(name)}):
        values = each(lambda stack, name=name: _variable(stack, name))  # type: ignore[misc]
        everywhere = all(value is None or value.key is not None for value in values)
        names_devices = name in DEVICE_VARIABLES and everywhere
        yield _Topic(f"environ.{name}", f"{name} {{}}", "note" if names_devices else "warning", values)
    yield _Topic("container.image", "container image {}", "warning", _images(stacks))
    yield _Topic("host.kernel", "kernel {}", "note", each(_fact("host", "kernel")))


# ---- what a node holds -------------------------------------------------------------------------------


def _known(stack: Stack, address: str, text: str | None, *, absent: bool = True) -> Value | None:
    """Return a value; where there is none, that it is known not to be there, or None where nothing is known."""
    if text:
        return Value(text, text)
    return Value(None, NOT_THERE) if absent and stack.absent(address, None) else None


def _fact(section: str, key: str) -> Callable[[Stack], Value | None]:
    def read(stack: Stack) -> Value | None:
        table = getattr(stack.manifest, section)
        return _known(stack, f"{section}.{key}", getattr(table, key), absent=bool(table != type(table)()))

    return read


def _nccl(stack: Stack, framework: str, matrix: Matrix) -> Held | None:
    """Return the NCCL that a framework uses."""
    if stack.version_of(framework) is None:
        return None
    return next((each for each in held(stack, "nccl", matrix) if each.framework in (framework, None)), None)


def _release(nccl: Held | None) -> Value | None:
    """Return an NCCL's version to the patch release, which is what NCCL compares."""
    release = series(nccl.version, 3) if nccl else ()
    return Value(release, dotted(release)) if release else None


def _driver(stack: Stack) -> Value | None:
    return _known(stack, "driver.version", stack.driver.version or stack.driver.kernel_module)


def _framework(stack: Stack, name: str) -> Value | None:
    """Return a framework's version; the CUDA in its local part is compared as such, and not every source states it."""
    framework, installed = stack.framework(name), stack.version_of(name)
    text = (framework.version if framework else None) or (installed.version if installed else None)
    if text:
        return Value(_BUILD.sub("", text), text)
    known = stack.unobserved("package") is None and stack.unobserved("framework") is None
    return _known(stack, f"framework.{name}", None, absent=known)


def _cuda(stack: Stack, name: str) -> Value | None:
    build = stack.build(name)
    if build is None or build.cuda is None:
        return None
    return Value(build.cuda, build.cuda or "CPU build")


def _gpu_model(stack: Stack) -> Value | None:
    if not all(gpu.name for gpu in stack.gpus):
        return None
    names = sorted({f"{gpu.name}{' in MIG mode' if gpu.mig else ''}" for gpu in stack.gpus})
    return _known(stack, "gpu", ", ".join(names))


def _gpu_count(stack: Stack) -> Value | None:
    if not stack.gpus or any(gpu.count is None for gpu in stack.gpus):
        return None
    count = sum(gpu.count or 0 for gpu in stack.gpus)
    return Value(count, str(count))


def _is_shared(name: str) -> bool:
    return name.startswith("NCCL_") and not OWN_VARIABLES.match(name)


def _variable(stack: Stack, name: str) -> Value | None:
    if stack.partial or stack.unobserved(f"environ.{name}"):
        return None
    text = stack.environ.get(name)
    return Value(None, UNSET) if text is None else Value(text, f"={text}")


def _images(stacks: Sequence[Stack]) -> list[Value | None]:
    """Return the images: by digest where all that name one state it, else by name; one digest may bear two names."""
    tables = [stack.manifest.container for stack in stacks]
    by_digest = all(table.digest for table in tables if table.image or table.digest)
    return [
        Value(table.digest, f"{table.image or ''} ({table.digest[:19]})".strip())
        if by_digest and table.digest
        else Value(table.image, table.image)
        if table.image
        else None
        for table in tables
    ]


# ---- who is the odd one out --------------------------------------------------------------------------


class _Share(NamedTuple):
    value: Value
    names: tuple[str, ...]


def _odd(topic: _Topic, kinds: Sequence[Kind]) -> Odd | None:
    """Return who differs in a fact, and the finding: the odd nodes first, then what the others have."""
    names: dict[object, list[str]] = {}
    values: dict[object, Value] = {}
    for kind, value in zip(kinds, topic.values, strict=True):
        if value is not None:
            names.setdefault(value.key, []).extend(kind.names)
            values[value.key] = value
    if len(values) < 2:
        return None
    found = [_Share(values[key], tuple(sorted(names[key]))) for key in values]
    # The largest first; where two are equally large the order is that of their nodes.
    found.sort(key=lambda each: (-len(each.names), each.names))
    most, *odd = found
    total = sum(len(each.names) for each in found)
    evidence = tuple(
        Evidence(topic.address, f"{_plain(each.value)} on {fold(each.names, PARTS_SHOWN)}")
        for each in found[: VALUES_SHOWN + 1]
    )
    said = _majority(topic, most, odd) if len(most.names) * 2 > total else _no_majority(topic, found)
    finding = Finding(
        subject=topic.address,
        message=f"{said}; {topic.why}" if topic.why else said,
        evidence=evidence,
        severity=topic.severity,
        source="NCCL, src/init.cc; NVIDIA/nccl issue 260" if "NCCL" in topic.words else "",
    )
    return Odd(tuple(sorted(name for each in odd for name in each.names)), finding)


def _majority(topic: _Topic, most: _Share, odd: Sequence[_Share]) -> str:
    shown = [f"{fold(odd[0].names, PARTS_SHOWN)}: {_said(topic, odd[0].value)}"]
    shown += [f"{fold(each.names, PARTS_SHOWN)}: {_plain(each.value)}" for each in odd[1:VALUES_SHOWN]]
    left = sum(len(each.names) for each in odd[VALUES_SHOWN:])
    shown += [f"{left:,} more with others"] if left else []
    return f"{', '.join(shown)} ({len(most.names):,} others {_plain(most.value)})"


def _no_majority(topic: _Topic, found: Sequence[_Share]) -> str:
    shown = [
        f"{_said(topic, each.value)} on {fold(each.names, PARTS_SHOWN)}" for each in found[: VALUES_SHOWN + 1]
    ]
    left = sum(len(each.names) for each in found[VALUES_SHOWN + 1 :])
    shown += [f"others on {left:,} more"] if left else []
    return f"no majority: {', '.join(shown)}"


def _said(topic: _Topic, value: Value) -> str:
    """Say a value with its name: "driver 550.54.14", "no driver", "NCCL_ALGO=Ring"."""
    if value.shown == NOT_THERE:
        return f"no {topic.words.replace('{}', '').strip()}"
    words = topic.words.replace(" {}", "{}") if value.shown.startswith("=") else topic.words
    return words.replace("{}", value.shown)


def _plain(value: Value) -> str:
    return value.shown.removeprefix("=") or '""'
