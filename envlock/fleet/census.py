"""Which nodes of a fleet are equal: their manifests grouped by content, without what is each node's own.

Some facts belong to a node and not to the job: the names of its network interfaces, the GPUs that the scheduler gave
it, a scratch folder of its own. They set nobody apart. Some are known by name; others show themselves by being
different on nearly every node, where nobody can be the odd one out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from envlock.compare.groups import Alike
from envlock.compare.model import Unseen
from envlock.errors import EnvlockError
from envlock.fleet.content import Part, Reader, join
from envlock.manifest.address import facts, replace
from envlock.manifest.node_names import fold
from envlock.probe.environ import is_of_one_process
from envlock.rules.environment import interface_in_use
from envlock.rules.fleet import OWN_VARIABLES

if TYPE_CHECKING:
    from envlock.fleet.store import Entry
    from envlock.manifest.model import Manifest

KINDS_COMPARED = 200
"""Kinds of node that are compared at most, the largest first; the nodes of others are named as not compared."""

CROWD = 8
"""Nodes from which on a fact can show itself to be each node's own."""

SIZES = ("host.memory_gib", "host.shm_gib")
SAME_SIZE = 1.03
"""Sizes no further apart than this are one size: firmware and kernels leave a little less or more of the same DIMMs."""

_OWN_PLACES = frozenset({"python.executable", "python.prefix", "python.path"})
_OF_THE_JOB = re.compile(r"(?:NCCL|LD|PYTHON)_?")
"""Variables that must not vary unseen, even where every node has another value."""

_OF_THE_PROCESS = re.compile(r"(?:SLURM|PMI|PMIX|PALS|FLUX|OMPI_COMM|HYDRA)_")
_DEVICES = frozenset({"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"})
_HIDES_ALL = frozenset({"", "-1", "NoDevFiles", "none", "void"})


class Census(NamedTuple):
    """The nodes of a fleet, sorted into kinds."""

    kinds: tuple[Alike, ...]
    """The largest first; each with one manifest that stands for all, without what is each node's own."""
    failed: dict[str, str]
    """Nodes without a manifest, and why."""
    own: tuple[str, ...]
    """Addresses of facts that differ on nearly every node and were therefore not compared."""
    uncompared: tuple[str, ...]
    """Nodes of kinds beyond ``KINDS_COMPARED``."""

    @property
    def nodes(self) -> int:
        """Return how many nodes have a manifest."""
        return sum(len(kind.members) for kind in self.kinds) + len(self.uncompared)


def take(
    entries: Iterable[Entry],
    keeps: Callable[[str], bool] = lambda address: False,
) -> Census:
    """Read and sort the nodes; ``keeps`` tells the addresses that count even where they are each node's own.

    The order of the nodes has no influence. Time grows with the nodes, memory with the different tables among them.
    """
    reader = Reader()
    held: dict[str, tuple[Part, ...]] = {}
    failed: dict[str, str] = {}
    for entry in entries:
        if entry.failed is not None:
            failed[entry.node] = entry.failed
            continue
        try:
            held[entry.node] = reader.read(entry)
        except EnvlockError as error:
            failed[entry.node] = str(error)
    sizes = _sizes(held.values())
    own = {address for address in _own(held.values()) if not keeps(address)}
    sorter = _Sorter(own, sizes, keeps)
    buckets: dict[tuple[object, ...], list[str]] = {}
    for node in sorted(held):
        buckets.setdefault(sorter.key(held[node]), []).append(node)
    ordered = sorted(buckets.values(), key=lambda names: (-len(names), names))
    kinds = tuple(_alike(names, held[names[0]], sorter) for names in ordered[:KINDS_COMPARED])
    left = tuple(sorted(name for names in ordered[KINDS_COMPARED:] for name in names))
    return Census(kinds, dict(sorted(failed.items())), tuple(sorted(own)), left)


def without_own(manifest: Manifest, own: Iterable[str], keeps: Callable[[str], bool]) -> Manifest:
    """Return a lock without the facts that were not compared between nodes, so that they are no drift either."""
    named = {address for address, value in facts(manifest).items() if _is_of_the_process(address, value)}
    return replace(manifest, {address: None for address in {*own, *named} if not keeps(address)})


def _alike(names: list[str], parts: tuple[Part, ...], sorter: _Sorter) -> Alike:
    nodes = fold(names)
    unobserved = [Unseen(address, why, nodes) for part in parts for address, why in part.unobserved.items()]
    return Alike(names, replace(join(parts), sorter.corrections(parts)), unobserved)


def _own(nodes: Iterable[tuple[Part, ...]]) -> set[str]:
    """Return the addresses whose values differ on more than half of the nodes, of those that may be a node's own."""
    values: dict[str, Counter[str]] = {}
    count = 0
    texts: dict[bytes, list[tuple[str, str]]] = {}
    for parts in nodes:
        count += 1
        for part in parts:
            if part.content not in texts:
                texts[part.content] = [
                    (address, repr(value)) for address, value in part.facts.items() if _may_be_own(address)
                ]
            for address, text in texts[part.content]:
                values.setdefault(address, Counter())[text] += 1
    return {
        address
        for address, found in values.items()
        if count >= CROWD and len(found) * 2 > count and address != "host.interfaces"
    }


def _may_be_own(address: str) -> bool:
    section, _, name = address.partition(".")
    return address in _OWN_PLACES or (section == "environ" and not _OF_THE_JOB.match(name))


def _sizes(nodes: Iterable[tuple[Part, ...]]) -> dict[tuple[str, Any], Any]:
    """Map each size to the least of those that count as the same."""
    found: dict[str, set[Any]] = {address: set() for address in SIZES}
    for parts in nodes:
        for part in parts:
            if part.section == "host":
                for address in SIZES:
                    if part.facts.get(address) is not None:
                        found[address].add(part.facts[address])
    same: dict[tuple[str, Any], Any] = {}
    for address, values in found.items():
        previous = least = None
        for value in sorted(values):
            if previous is None or value > previous * SAME_SIZE:
                least = value
            same[address, value] = least
            previous = value
    return same


class _Sorter:
    """Knows what of a node's facts counts; equal tables are judged once."""

    def __init__(
        self, own: set[str], sizes: Mapping[tuple[str, Any], Any], keeps: Callable[[str], bool]
    ) -> None:
        self._own = own
        self._sizes = sizes
        self._keeps = keeps
        self._judged: dict[bytes, tuple[object, dict[str, Any]]] = {}

    def key(self, parts: Sequence[Part]) -> tuple[object, ...]:
        """Return what is equal for nodes of one kind."""
        found: list[object] = [self._judge(part)[0] for part in parts if part.content]
        if self._in_use(parts) == "":
            found.append(("host.interfaces", repr(_facts("host", parts).get("host.interfaces"))))
        return tuple(sorted(found, key=repr))

    def corrections(self, parts: Sequence[Part]) -> dict[str, Any]:
        """Return the facts that make a node's manifest stand for its kind: address -> value, None to leave it out.

        Of the interfaces one that NCCL is told to use stays; where there is none such, they all do.
        """
        found: dict[str, Any] = {}
        for part in parts:
            found.update(self._judge(part)[1])
        name = self._in_use(parts)
        if name == "":
            found.pop("host.interfaces", None)
        elif name:
            found["host.interfaces"] = [name]
        return found

    def _judge(self, part: Part) -> tuple[object, dict[str, Any]]:
        if part.content not in self._judged:
            changed = {
                address: value for address, value in map(self._corrected, part.facts.items()) if address
            }
            if changed:
                left = {**part.facts, **changed}
                kept = tuple(
                    (address, repr(value)) for address, value in sorted(left.items()) if value is not None
                )
                self._judged[part.content] = (kept, changed)
            elif part.facts:
                kept = tuple((address, repr(value)) for address, value in sorted(part.facts.items()))
                self._judged[part.content] = (kept, {})
            else:
                self._judged[part.content] = (part.content, {})
        return self._judged[part.content]

    def _corrected(self, fact: tuple[str, Any]) -> tuple[str, Any]:
        """Return the address and what counts of it, or an empty address where the fact counts as it is."""
        address, value = fact
        if self._keeps(address):
            return ("", None)
        if address in self._own or address == "host.interfaces" or _is_of_the_process(address, value):
            return (address, None)
        if address in SIZES and self._sizes[address, value] != value:
            return (address, self._sizes[address, value])
        return ("", None)

    def _in_use(self, parts: Sequence[Part]) -> str | None:
        """Return the interface that NCCL or Gloo would use of those that they are told to, as ``interface_in_use``."""
        if self._keeps("host.interfaces"):
            return None
        environ = {address.partition(".")[2]: text for address, text in _facts("environ", parts).items()}
        return interface_in_use(environ, _facts("host", parts).get("host.interfaces"))


def _facts(section: str, parts: Sequence[Part]) -> Mapping[str, Any]:
    return next((part.facts for part in parts if part.section == section), {})


def _is_of_the_process(address: str, value: Any) -> bool:
    """Tell whether a variable belongs to one process or node of the job, or only says where to write."""
    section, _, name = address.partition(".")
    if section == "container" and name == "visible_devices":
        return value not in _HIDES_ALL
    if section != "environ":
        return False
    if name in _DEVICES:
        return value not in _HIDES_ALL
    return bool(OWN_VARIABLES.match(name) or _OF_THE_PROCESS.match(name) or is_of_one_process(name))
