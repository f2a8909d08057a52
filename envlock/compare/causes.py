"""Which differences are to blame: tried on paper first, then ranked by what hangs on them.

A cause is a difference whose reversal makes the failure go away. Rules are pure functions of a
manifest, so a finding that one side has and the other has not is put to the test: the differences in
its evidence are reverted, one by one and then in minimal sets (delta debugging, Zeller and Hildebrandt
2002), and the rule is run again. What no rule explains is ranked by a sum of stated weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from envlock.compare.model import Cause, Change
from envlock.manifest.address import covers, replace
from envlock.manifest.model import Manifest
from envlock.rules.engine import still_finds
from envlock.rules.model import Finding
from envlock.rules.stack import Stack

if TYPE_CHECKING:
    from envlock.compare.symptoms import Symptoms
    from envlock.matrix.loader import Matrix

TRIALS = 120
"""Runs of a single rule for one finding at most, in the search for a minimal set."""

FINDINGS = 20
"""Findings that are put to the test at most: worst first, and a stack broken twenty times needs no more."""

PROVEN = {"error": 1000, "warning": 600, "note": 250}
TOUCHED = {"error": 420, "warning": 260, "note": 120}
"""Weight of a finding whose evidence a change touches although reverting it alone could not be tried."""


@dataclass(frozen=True)
class Suspect:
    """A cause with the weights that give it its place."""

    cause: Cause
    weight: float


def find_causes(
    bad: Manifest,
    changes: Sequence[Change],
    findings: Iterable[Finding],
    matrix: Matrix,
    symptoms: Symptoms | None,
    *,
    flipped: bool = False,
) -> list[Suspect]:
    """Return suspects among the changes for findings that only the bad side has.

    ``flipped`` says that the bad side is theirs: a change's "before" is then the good value.
    """
    # No rule asks what lies beside the environment in use.
    inside = [change for change in changes if not change.address.startswith("conda.")]
    trial = Trial(bad, _groups(inside), matrix, flipped)
    suspects: list[Suspect] = []
    for finding in list(findings)[:FINDINGS]:
        suspects += _explain(trial, finding, symptoms)
    return suspects


class Trial:
    """The bad side with differences reverted on paper; each set of them is put together once."""

    def __init__(self, bad: Manifest, groups: dict[str, list[Change]], matrix: Matrix, flipped: bool) -> None:
        self.groups = groups
        self._bad = bad
        self._matrix = matrix
        self._flipped = flipped
        self._stacks: dict[tuple[str, ...], Stack | None] = {}

    def cures(self, roots: Sequence[str], finding: Finding) -> bool:
        """Tell whether reverting these root changes, and what follows them, removes a finding."""
        key = tuple(roots)
        if key not in self._stacks:
            reverted = _reverted(
                self._bad, (each for root in roots for each in self.groups[root]), self._flipped
            )
            self._stacks[key] = Stack(reverted) if reverted is not None else None
        stack = self._stacks[key]
        return stack is not None and not still_finds(stack, self._matrix, finding)


def _groups(changes: Sequence[Change]) -> dict[str, list[Change]]:
    """Map each root change to itself and all that follow it."""
    groups: dict[str, list[Change]] = {}
    for change in changes:
        groups.setdefault(change.folded_under or change.address, []).append(change)
    return groups


def _reverted(bad: Manifest, changes: Iterable[Change], flipped: bool) -> Manifest | None:
    values = {change.address: change.before if flipped else change.after for change in changes}
    try:
        return replace(bad, values)
    except msgspec.ValidationError:
        return None


def _explain(trial: Trial, finding: Finding, symptoms: Symptoms | None) -> list[Suspect]:
    groups = trial.groups
    severity = finding.severity or "error"
    told = _told(finding, symptoms)
    addresses = [finding.subject, *(each.address for each in finding.evidence)]

    def cured(roots: Sequence[str]) -> bool:
        return trial.cures(roots, finding)

    near = [
        root for root, group in groups.items() if any(_touches(each.address, addresses) for each in group)
    ]
    near.sort(key=lambda root: _place(groups[root], addresses))
    single = [root for root in near if cured([root])]
    if single:
        # A fact that one side merely does not state silences a rule without proving anything.
        return [
            _suspect(finding, [root], groups, PROVEN[severity] + told - 5 * place,
                     proven=not all(each.one_sided for each in groups[root]))
            for place, root in enumerate(single)
        ]  # fmt: skip
    others = [root for root in groups if root not in near]
    smallest = _minimal([*near, *others], cured)
    if smallest:
        return [_suspect(finding, smallest, groups, PROVEN[severity] + told - 20, proven=True)]
    return [
        _suspect(finding, [root], groups, TOUCHED[severity] + told - 5 * place, proven=False)
        for place, root in enumerate(near)
    ]


def _told(finding: Finding, symptoms: Symptoms | None) -> int:
    """Weigh what the error text says of a finding."""
    if symptoms is None:
        return 0
    weight = 500 if finding.rule in symptoms.rules else 0
    if any(_touches(address, [finding.subject]) for address in symptoms.addresses):
        weight += 150
    return weight


def _touches(address: str, others: Iterable[str]) -> bool:
    return any(covers(other, address) or covers(address, other) for other in others)


def _place(group: list[Change], addresses: list[str]) -> int:
    """Return how early a finding names one of these changes: its subject comes first."""
    places = [
        place
        for place, address in enumerate(addresses)
        for each in group
        if _touches(each.address, [address])
    ]
    return min(places, default=len(addresses))


def _suspect(
    finding: Finding, roots: list[str], groups: dict[str, list[Change]], weight: float, *, proven: bool
) -> Suspect:
    members = [change for root in roots for change in groups[root]]
    # The change that bears the root's address leads; a group may be known by a change outside the evidence.
    leader = next((change for change in members if change.address == roots[0]), members[0])
    many = f" (these {len(roots)} together)" if len(roots) > 1 else ""
    why = f"reverting it{many} removes: {finding.message}" if proven else f"it touches: {finding.message}"
    cause = Cause(
        address=leader.address,
        addresses=tuple(change.address for change in members),
        proven=proven,
        why=why,
        rule=finding.rule,
        before=leader.before,
        after=leader.after,
    )
    return Suspect(cause, weight)


def _minimal(roots: list[str], cured: Any) -> list[str] | None:
    """Return a smallest set of changes (1-minimal) whose reversal cures, by delta debugging; None if none does."""
    if len(roots) < 2 or not cured(roots):
        return None
    left = TRIALS
    pieces = 2
    while len(roots) > 1 and left > 0:
        size = max(1, len(roots) // pieces)
        chunks = [roots[start : start + size] for start in range(0, len(roots), size)]
        for index, chunk in enumerate(chunks):
            rest = [root for other, each in enumerate(chunks) if other != index for root in each]
            left -= 1
            if rest and cured(rest):
                roots, pieces = rest, max(pieces - 1, 2)
                break
            if len(chunks) > 2 and cured(chunk):
                roots, pieces = chunk, 2
                break
        else:
            if size == 1:
                break
            pieces = min(pieces * 2, len(roots))
    return roots


# ---- differences that no rule explains ---------------------------------------------------------------

_LAYER_WEIGHT = {"driver": 95, "gpu": 80, "container": 75, "framework": 88, "toolkit": 72, "library": 78, "environ": 74,
                 "compiler": 62, "python": 60, "os": 45, "host": 12, "conda": 1}  # fmt: skip
"""What rests on a layer when it moves; packages are weighed one by one."""

_QUIET = {"host.kernel": 6, "host.memory_gib": 2, "host.cpu": 14, "host.interfaces": 10, "host.shm_gib": 9,
          "python.executable": 3, "python.prefix": 3, "os.version": 40, "os.id": 45, "gpu": 55,
          "container.image": 40}  # fmt: skip
_LOUD_VARIABLE = ("LD_", "NCCL_", "CUDA_", "NVIDIA_", "PYTHON", "TORCH_", "PYTORCH_", "XLA_", "TF_", "OMP_", "MKL_",
                  "KMP_", "OPENBLAS_", "UCX_", "OMPI_", "FI_", "CUBLAS_", "CUDNN_")  # fmt: skip
_QUIET_VARIABLE = ("LANG", "LC_", "TERM", "VIRTUAL_ENV", "CONDA_", "HF_", "WANDB_")
_COUPLED = {"torch": 60, "tensorflow": 60, "jax": 55, "jaxlib": 55, "numpy": 40, "protobuf": 30, "triton": 40, "transformers": 35,
            "torchvision": 30, "torchaudio": 25, "setuptools": 20, "mkl": 40, "openblas": 30, "libopenblas": 30, "flash-attn": 40,
            "xformers": 35, "vllm": 45, "cudatoolkit": 45, "cudnn": 50, "nccl": 50, "pydantic": 20, "huggingface-hub": 20,
            "hdf5": 20, "scipy": 15, "pandas": 15, "pytorch": 60, "libtorch": 55, "openssl": 20, "opencv-python": 20}  # fmt: skip
"""Projects with a binary interface, or a run-time one, that many others are built against."""

_SIZE_WEIGHT = {"major": 30, "minor": 15, "patch": 4, "build": 6, "unknown": 8}
_KIND_WEIGHT = {"added": 8, "removed": 10, "origin": 18, "digest": 25, "value": 12, "build": 15, "version": 0}


def rank_unexplained(
    changes: Sequence[Change], mine: Manifest, theirs: Manifest, symptoms: Symptoms | None, matrix: Matrix
) -> list[Suspect]:
    """Rank root changes by what couples to them, their size, and what the error text names."""
    dependants = _dependants(mine, theirs)
    blamed = _blamed_before(matrix)
    suspects = []
    for root, group in _groups(changes).items():
        leader = next((change for change in group if change.address == root), group[0])
        weight, reasons = _weigh(leader, dependants, blamed)
        said, words = _said(group, symptoms)
        why = "; ".join([*words, *reasons])
        cause = Cause(root if leader.address == root else leader.address, tuple(each.address for each in group),
                      False, why, before=leader.before, after=leader.after)  # fmt: skip
        suspects.append(Suspect(cause, weight + said))
    return suspects


def _dependants(*manifests: Manifest) -> dict[str, int]:
    counts: dict[str, int] = {}
    name = re.compile(r"[A-Za-z0-9._-]+")
    for manifest in manifests:
        for lines in manifest.requires.values():
            for line in lines:
                found = name.match(line)
                if found:
                    counts[found.group()] = counts.get(found.group(), 0) + 1
    return counts


def _blamed_before(matrix: Matrix) -> dict[str, int]:
    """Count in how many rows of the matrix a package (by name) or a variable (by address) is what broke others."""
    counts: dict[str, int] = {}
    for row in matrix.rows("breakages", "breakage"):
        name = row.get("blame", row["with"])
        counts[name] = counts.get(name, 0) + 1
    for row in matrix.rows("environment", "variable"):
        counts[f"environ.{row['name']}"] = 1
    return counts


def _weigh(change: Change, dependants: dict[str, int], blamed: dict[str, int]) -> tuple[float, list[str]]:
    section, _, rest = change.address.partition(".")
    reasons: list[str] = []
    weight: float
    size = _SIZE_WEIGHT.get(change.size, 0)
    if section == "package":
        name = rest.partition(".")[2]
        hanging = dependants.get(name, 0)
        kind = 0 if _only_rebuilt(change) else _KIND_WEIGHT[change.kind]
        weight = 20 + size + kind + _COUPLED.get(name, 0) + min(hanging, 20)
        if name in _COUPLED:
            reasons.append("others are built against it")
        elif name in blamed:
            weight += min(4 * blamed[name], 20)
            reasons.append("releases of it are known to break others")
        if hanging > 2:
            reasons.append(f"{hanging} requirements name it")
        if name.startswith("nvidia-") or rest.startswith("system."):
            weight += 30
    elif section == "environ":
        loud = rest.startswith(_LOUD_VARIABLE) or change.address in blamed
        weight = _LAYER_WEIGHT["environ"] if loud else 5 if rest.startswith(_QUIET_VARIABLE) else 30
        reasons.append("a variable that changes what is loaded or used" if loud else "a variable")
    else:
        weight = _QUIET.get(change.address, _LAYER_WEIGHT.get(section, 40)) + size / 3
        reasons.append("beside the environment in use" if section == "conda" else f"layer {section}")
    if change.size:
        reasons.append(f"{change.size} change")
    elif change.kind in ("added", "removed", "origin", "digest"):
        reasons.append({"added": "only theirs has it", "removed": "only mine has it", "origin": "another origin",
                        "digest": "same version, other content"}[change.kind])  # fmt: skip
    if change.one_sided:
        weight *= 0.8
        reasons.append("the other report may merely not say")
    return weight, reasons


_HASH_AND_NUMBER = re.compile(r"h[0-9a-f]{7,}|_\d+$")


def _only_rebuilt(change: Change) -> bool:
    """Tell whether conda builds differ in hash and number alone: made anew for what they depend on, not otherwise."""
    if change.kind != "build":
        return False
    builds = [
        side.get("build") or "" if isinstance(side, dict) else "" for side in (change.before, change.after)
    ]
    plain = {_HASH_AND_NUMBER.sub("", each) for each in builds}
    return all(builds) and len(plain) == 1


def _said(group: Sequence[Change], symptoms: Symptoms | None) -> tuple[float, list[str]]:
    if symptoms is None:
        return 0, []
    pointers = [
        pointer
        for change in group
        for address, pointer in symptoms.addresses.items()
        if _touches(change.address, [address])
    ]
    if pointers:
        best = min(pointers, key=lambda pointer: pointer.place)
        return 340 - 40 * min(best.place, 6), [f"the log points to it: {best.line[:100]}"]
    named = max((symptoms.mentions.get(change.address, 0) for change in group), default=0)
    if named:
        return 60 + min(named, 20) * 6, ["the log names it"]
    return 0, []
