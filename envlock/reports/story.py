"""What a report tells, and in which order, whatever it is set in: the sentence, the cause, its chain, the layers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from envlock.compare.model import Cause, Change, Unseen
from envlock.manifest.address import covers, facts
from envlock.reports.style import show
from envlock.rules.model import SEVERITIES, Evidence, Finding, Result, Unknown

if TYPE_CHECKING:
    from envlock.compare.engine import Difference
    from envlock.compare.groups import Group, Grouping
    from envlock.compare.nodes import NodesComparison
    from envlock.locks.nodes import NodesVerification
    from envlock.locks.policy import Verification
    from envlock.manifest.model import Manifest


class Layer(NamedTuple):
    """One layer of the stack: a word for anchors, a title, and the manifest's tables in it."""

    key: str
    title: str
    sections: tuple[str, ...]


LAYERS = (
    Layer("gpu", "GPU", ("gpu",)),
    Layer("driver", "Driver", ("driver",)),
    Layer("machine", "Machine, container", ("host", "container")),
    Layer("os", "Operating system", ("os",)),
    Layer("toolkit", "CUDA toolkit, compilers", ("toolkit", "compiler")),
    Layer("library", "Native libraries", ("library",)),
    Layer("python", "Python", ("python",)),
    Layer("framework", "Frameworks", ("framework",)),
    Layer("package", "Packages", ("package", "conda", "requires")),
    Layer("environ", "Environment", ("environ",)),
)
"""The stack, from what everything rests on to what rests on it."""

_BY_SECTION = {section: layer for layer in LAYERS for section in layer.sections}

KINDS = {
    "origin": "other origin",
    "build": "other build",
    "digest": "other content",
    "added": "only here",
    "removed": "gone",
}


class Side(NamedTuple):
    """One of the stacks that a report is about."""

    role: str
    """mine, theirs, lock, now; empty where there is but one."""
    label: str
    manifest: Manifest

    @property
    def name(self) -> str:
        """Return how the side is called: its label, and its role where it has one."""
        return f"{self.label} ({self.role})" if self.role and self.role != self.label else self.label


class Root(NamedTuple):
    """A change, and those that merely follow it."""

    change: Change
    followers: tuple[Change, ...]


class Link(NamedTuple):
    """A fact that a finding's evidence connects: its value where the finding stands, and its change, if any."""

    address: str
    value: Any
    change: Change | None


class Told(NamedTuple):
    """A cause with the finding that it explains and the facts that this finding connects."""

    cause: Cause
    finding: Finding | None
    links: tuple[Link, ...]


class Story(NamedTuple):
    """All that a report says."""

    command: str
    title: str
    lead: str
    """One sentence: the answer."""
    verdict: str
    sides: tuple[Side, ...]
    bad: str = ""
    """The role of the side that fails, where that is known."""
    causes: tuple[Told, ...] = ()
    changes: tuple[Change, ...] = ()
    findings: tuple[tuple[str, Finding], ...] = ()
    """With the role of the side that each stands on; empty where there is one side, or where all have it."""
    unobserved: tuple[Unseen, ...] = ()
    unknown: tuple[Unknown, ...] = ()
    hint: tuple[str, str] | None = None
    """What a command would do, and the command."""
    drawn: bool = True
    """False where a side is not a stack, such as another tool's lock: then there are no layers to draw."""


def label(manifest: Manifest, path: str | None) -> str:
    """Return what a stack is called: the name its capture was given, else its file's."""
    if manifest.capture.name:
        return manifest.capture.name
    if path is None:
        return "this machine"
    return "standard input" if path == "-" else os.path.basename(path)


def labels(manifests: Sequence[Manifest], paths: Sequence[str]) -> list[str]:
    """Return a label for each stack, no two alike: the file name, then a number, tells equal names apart."""
    plain = [label(manifest, path) for manifest, path in zip(manifests, paths, strict=True)]
    longer = [
        f"{name} ({path})" if plain.count(name) > 1 else name for name, path in zip(plain, paths, strict=True)
    ]
    found: list[str] = []
    taken: dict[str, int] = {}
    for name in longer:
        taken[name] = taken.get(name, 0) + 1
        found.append(name if taken[name] == 1 else f"{name} #{taken[name]}")
    return found


# ---- the stories -------------------------------------------------------------------------------------


def of_difference(
    difference: Difference, mine: Manifest, theirs: Manifest, names: tuple[str, str] = ("mine", "theirs")
) -> Story:
    """Tell a diff."""
    sides = (Side("mine", names[0], mine), Side("theirs", names[1], theirs))
    causes = tuple(_told(cause, difference) for cause in difference.causes)
    return Story(
        command="diff",
        title=_difference_title(difference, sides),
        lead=_difference_lead(difference, causes),
        verdict=difference.verdict,
        sides=sides,
        bad=difference.bad or "",
        causes=causes,
        changes=difference.changes,
        findings=_sided(difference),
        unobserved=difference.unobserved,
        unknown=difference.unknown,
    )


def _difference_title(difference: Difference, sides: tuple[Side, Side]) -> str:
    one, two = (side.label if sides[0].label != sides[1].label else side.role for side in sides)
    if difference.bad and difference.changes:
        failing, working = (one, two) if difference.bad == "mine" else (two, one)
        return f"Why {failing} fails and {working} does not"
    return f"What differs between {one} and {two}"


def _difference_lead(difference: Difference, causes: Sequence[Told]) -> str:
    if not difference.changes:
        return "No difference: every fact that both sides could see is the same."
    first = causes[0] if causes else None
    if first and first.cause.proven and first.finding:
        return _sentence(first.finding.message)
    return "No difference is proven to break anything; what is most likely comes first."


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else text + "."


def is_lead(each: Told, story: Story) -> bool:
    """Tell whether a cause's finding is what the report's first sentence says."""
    return each.finding is not None and story.lead == _sentence(each.finding.message)


def _sided(difference: Difference) -> tuple[tuple[str, Finding], ...]:
    """Return the findings, those that one side has before those that both have, each once."""
    own = [(each.side, each.finding) for each in difference.findings if not each.shared]
    both = [("", each.finding) for each in difference.findings if each.shared and each.side == "mine"]
    return (*own, *both)


def _told(cause: Cause, difference: Difference) -> Told:
    finding = finding_of(cause, (each.finding for each in difference.findings if not each.shared))
    if finding is None:
        return Told(cause, None, ())
    links = [
        Link(each.address, each.value, touching(each.address, difference.changes))
        for each in _once(finding.evidence)
    ]
    return Told(cause, finding, tuple(links))


def _once(evidence: Iterable[Evidence]) -> list[Evidence]:
    return list({each.address: each for each in evidence}.values())


def finding_of(cause: Cause, findings: Iterable[Finding]) -> Finding | None:
    """Return the finding that a cause explains; the reason that a cause gives ends with its message."""
    if not cause.rule:
        return None
    same = [finding for finding in findings if finding.rule == cause.rule]
    named = [finding for finding in same if cause.why.endswith(finding.message)]
    return next(iter(named or same), None)


def touching(address: str, changes: Iterable[Change]) -> Change | None:
    """Return the change of a fact: of that address, above it or below it."""
    return next((c for c in changes if covers(c.address, address) or covers(address, c.address)), None)


def of_check(result: Result, manifest: Manifest, name: str, *, everything: bool = False) -> Story:
    """Tell a check; known defects of rare uses are left out unless everything is asked for."""
    shown = [finding for finding in result.findings if everything or not finding.quiet]
    return Story(
        command="check",
        title=f"Can {name} work?",
        lead=_check_lead(result, len(result.findings) - len(shown)),
        verdict=result.verdict,
        sides=(Side("", name, manifest),),
        findings=tuple(("", finding) for finding in shown),
        unobserved=tuple(Unseen(each, why) for each, why in sorted(manifest.capture.unobserved.items())),
        unknown=result.unknown,
    )


def _check_lead(result: Result, left_out: int) -> str:
    errors = sum(finding.severity == "error" for finding in result.findings)
    counted = count_findings(finding for finding in result.findings if not finding.quiet)
    rare = (
        f" {left_out} known defect{'s' if left_out != 1 else ''} of rare uses {'are' if left_out != 1 else 'is'} left out."
        if left_out
        else ""
    )
    if errors:
        return f"No: {counted}.{rare}"
    if counted:
        return f"Nothing stands against it, but there is something to know: {counted}.{rare}"
    if result.unknown:
        return f"Nothing wrong was found, but not everything could be judged.{rare}"
    return f"Yes: nothing wrong was found.{rare}"


def count_findings(findings: Iterable[Finding]) -> str:
    """Say how many errors, warnings and notes there are; nothing where there are none."""
    counts = dict.fromkeys(SEVERITIES, 0)
    for finding in findings:
        counts[finding.severity or "error"] += 1
    return ", ".join(plural(count, severity) for severity, count in counts.items() if count)


def plural(count: int, word: str) -> str:
    """Say a number of things."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def of_verification(
    result: Verification,
    lock: Manifest | None,
    current: Manifest,
    path: str,
    name: str,
    hint: tuple[str, str] | None = None,
) -> Story:
    """Tell a verify; ``path`` is the lock's file, ``name`` what is held to it; another tool's lock is no manifest."""
    from envlock.manifest.model import Manifest

    drift = [change for change in result.drift if not change.folded_under]
    if not result.problems:
        lead = f"Yes: it matches {path}."
    else:
        parts = [f"{plural(len(drift), 'fact')} moved further than the lock allows"] if drift else []
        parts += [count_findings(result.findings)] if result.findings else []
        lead = f"No: {', and '.join(parts)}."
    return Story(
        command="verify",
        title=f"Does {name} match its lock?",
        lead=lead,
        verdict=result.verdict,
        sides=(Side("lock", label(lock or Manifest(), path), lock or Manifest()), Side("now", name, current)),
        changes=result.drift,
        findings=tuple(("now", finding) for finding in result.findings),
        unobserved=result.unobserved,
        unknown=result.unknown,
        hint=hint if result.problems else None,
        drawn=lock is not None,
    )


# ---- groups ------------------------------------------------------------------------------------------


def groups_title(grouping: Grouping) -> str:
    """Say how many machines there are, and how many kinds of them."""
    machines = sum(len(group.members) for group in grouping.groups)
    if len(grouping.groups) == 1:
        return f"{plural(machines, 'machine')}, all equal"
    return f"{plural(machines, 'machine')} in {plural(len(grouping.groups), 'group')}"


def group_title(group: Group, grouping: Grouping) -> str:
    """Say what a group is to the others."""
    machines = sum(len(each.members) for each in grouping.groups)
    if not group.reference:
        return plural(len(group.members), "machine") + " apart"
    if len(grouping.groups) == 1:
        return plural(len(group.members), "machine")
    if grouping.has_majority:
        return f"the majority, {len(group.members):,} of {machines:,}"
    return f"{plural(len(group.members), 'machine')} that the others are compared with"


def nodes_title(result: NodesComparison) -> str:
    """Say how many nodes there are, how many of them are equal, and how many gave nothing."""
    groups = result.grouping.groups
    most = len(groups[0].members)
    if len(groups) == 1 and not result.uncompared:
        said = f"{plural(result.nodes, 'node')}, all equal" if result.nodes > 1 else "1 node"
    elif result.grouping.has_majority and most * 2 > result.nodes:
        apart = result.nodes - most
        said = f"{plural(result.nodes, 'node')}: {most:,} are equal, {apart:,} {'differs' if apart == 1 else 'differ'}"
    else:
        kinds = plural(len(groups), "kind") if not result.uncompared else f"more than {len(groups):,} kinds"
        said = f"{plural(result.nodes, 'node')} of {kinds}, none of which is the majority"
    return said + _without_manifest(result.failed)


def nodes_verification_title(result: NodesVerification, lock: str) -> str:
    """Say how many nodes match their lock, how many do not, and how many gave nothing."""
    match, total = len(result.matching), result.nodes
    if match == total:
        said = (
            f"{plural(total, 'node')}, all of which match {lock}"
            if total > 1
            else f"1 node, which matches {lock}"
        )
    else:
        said = f"{plural(total, 'node')} against {lock}: {match:,} match, {total - match:,} do not"
    return said + _without_manifest(result.failed)


def _without_manifest(failed: Mapping[str, str]) -> str:
    return f"; {len(failed):,} gave no manifest" if failed else ""


def node_group_title(group: Group, grouping: Grouping) -> str:
    """Say what a group of nodes is to the others."""
    nodes = sum(len(each.members) for each in grouping.groups)
    if not group.reference:
        return f"{plural(len(group.members), 'node')} apart"
    if len(grouping.groups) == 1:
        return plural(nodes, "node")
    if grouping.has_majority:
        return f"the majority, {len(group.members):,} of {nodes:,}"
    return f"{plural(len(group.members), 'node')} that the others are compared with"


def failed_nodes(failed: Mapping[str, str]) -> list[tuple[list[str], str]]:
    """Return the reasons why nodes gave no manifest, each with its nodes; the most frequent first."""
    found: dict[str, list[str]] = {}
    for node, reason in sorted(failed.items()):
        found.setdefault(reason, []).append(node)
    return sorted(
        ((nodes, reason) for reason, nodes in found.items()), key=lambda each: (-len(each[0]), each[0])
    )


def unseen_on(unobserved: Iterable[Unseen]) -> list[tuple[str, str]]:
    """Return what nodes could not see, addresses of the same nodes together: "driver, gpu" and the nodes."""
    nodes: dict[str, list[str]] = {}
    for each in unobserved:
        nodes.setdefault(each.address, []).append(each.side)
    together: dict[str, list[str]] = {}
    for address, sides in nodes.items():
        together.setdefault(members(sides, 3), []).append(address)
    return [(", ".join(addresses), said) for said, addresses in together.items()]


def members(names: Sequence[str], limit: int) -> str:
    """Name the machines of a group; those beyond the limit are counted."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit:,} more"


def unseen_by(unobserved: Iterable[Unseen]) -> list[tuple[str, list[str]]]:
    """Return each fact that members of a group could not see, with the members' labels."""
    found: dict[str, list[str]] = {}
    for each in unobserved:
        found.setdefault(each.address, []).append(each.side)
    return sorted(found.items())


def explained(group: Group) -> tuple[tuple[Cause | None, Finding], ...]:
    """Return a group's own findings, each with the proven cause of it, if there is one."""
    causes: dict[tuple[str, str, str], Cause] = {}
    for cause in group.causes:
        finding = finding_of(cause, group.findings)
        if finding is not None:
            causes.setdefault(finding.identity, cause)
    return tuple((causes.get(finding.identity), finding) for finding in group.findings)


# ---- layers ------------------------------------------------------------------------------------------


def layer_of(address: str) -> Layer | None:
    """Return the layer that an address lies in."""
    return _BY_SECTION.get(address.partition(".")[0])


def roots(changes: Sequence[Change]) -> list[Root]:
    """Return the changes that follow no other, in stack order, each with those that follow it."""
    followers: dict[str, list[Change]] = {}
    for change in changes:
        if change.folded_under:
            followers.setdefault(change.folded_under, []).append(change)
    leading = sorted((change for change in changes if not change.folded_under), key=_stack_order)
    return [Root(change, tuple(followers.get(change.address, ()))) for change in leading]


def roots_within(changes: Sequence[Change]) -> list[Root]:
    """Return the roots of one layer's changes; one that follows a change elsewhere leads here."""
    here = {change.address for change in changes}
    leading = [change for change in changes if change.folded_under not in here]
    return [
        Root(change, tuple(each for each in changes if each.folded_under == change.address))
        for change in sorted(leading, key=_stack_order)
    ]


def _stack_order(change: Change) -> tuple[int, str]:
    layer = layer_of(change.address)
    return (LAYERS.index(layer) if layer else len(LAYERS), change.address)


def within(address: str) -> str:
    """Return an address as it reads below its layer's title: ``driver.version`` is its version."""
    section, _, rest = address.partition(".")
    layer = _BY_SECTION.get(section)
    if layer is None or not rest or (len(layer.sections) > 1 and section != layer.sections[0]):
        return address
    return rest


def facts_by_layer(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Return every fact of a stack, by layer's key and then by address."""
    found: dict[str, dict[str, Any]] = {layer.key: {} for layer in LAYERS}
    for address, value in facts(manifest).items():
        layer = layer_of(address)
        if layer is not None:
            found[layer.key][address] = value
    return found


def unseen_in(layer: Layer, manifest: Manifest) -> dict[str, str]:
    """Return what a capture could not see of a layer, and why."""
    return {
        address: reason
        for address, reason in sorted(manifest.capture.unobserved.items())
        if address.partition(".")[0] in layer.sections
    }


def summary(layer: Layer, held: Mapping[str, Any], manifest: Manifest) -> str:
    """Say in a few words what a stack holds in a layer."""
    if not held:
        return "not seen" if unseen_in(layer, manifest) else "nothing recorded"
    return _SUMMARIES[layer.key](held, manifest)


def _joined(*parts: str | None) -> str:
    return " · ".join(part for part in parts if part) or "recorded"


def _driver(held: Mapping[str, Any], _: Manifest) -> str:
    cuda = held.get("driver.cuda")
    return _joined(
        held.get("driver.version"), f"up to CUDA {cuda}" if cuda else None, held.get("driver.flavor")
    )


def _machine(held: Mapping[str, Any], _: Manifest) -> str:
    kernel = held.get("host.kernel")
    return _joined(
        f"kernel {kernel}" if kernel else None,
        held.get("host.arch"),
        held.get("container.image") or held.get("container.runtime"),
    )


def _os(held: Mapping[str, Any], _: Manifest) -> str:
    return _joined(
        " ".join(held[key] for key in ("os.id", "os.version") if held.get(key)), held.get("os.libc")
    )


def _toolkit(held: Mapping[str, Any], _: Manifest) -> str:
    gcc = held.get("compiler.gcc")
    return _joined(*(f"CUDA {show(each)}" for each in held.get("toolkit", ())), f"gcc {gcc}" if gcc else None)


def _library(held: Mapping[str, Any], _: Manifest) -> str:
    known = ("cudnn", "nccl", "cublas", "cudart")
    names = [name for name in known if f"library.{name}" in held]
    said = [f"{name} {held[f'library.{name}'][0].get('version', '')}".strip() for name in names[:3]]
    others = len(held) - len(said)
    return _joined(
        *said, f"{others} more" if said and others else None if said else plural(others, "library")
    )


def _python(held: Mapping[str, Any], _: Manifest) -> str:
    words = (held.get("python.implementation"), held.get("python.version"))
    return _joined(" ".join(word for word in words if word), held.get("python.prefix"))


def _framework(held: Mapping[str, Any], manifest: Manifest) -> str:
    names = list(manifest.framework)
    said = [f"{name} {manifest.framework[name].version or ''}".strip() for name in names[:3]]
    return _joined(*said, f"{len(names) - 3} more" if len(names) > 3 else None)


def _package(_: Mapping[str, Any], manifest: Manifest) -> str:
    held = manifest.package
    counts = (("pip", len(held.pip)), ("conda", len(held.conda)), ("system", len(held.system)))
    beside = (plural(len(each), "conda package") + f" in {prefix}" for prefix, each in manifest.conda.items())
    return _joined(*(plural(count, f"{manager} package") for manager, count in counts if count), *beside)


def _gpu(held: Mapping[str, Any], _: Manifest) -> str:
    return show(held["gpu"])


def _environ(held: Mapping[str, Any], _: Manifest) -> str:
    return plural(len(held), "variable")


_SUMMARIES: dict[str, Callable[[Mapping[str, Any], Manifest], str]] = {
    "gpu": _gpu,
    "driver": _driver,
    "machine": _machine,
    "os": _os,
    "toolkit": _toolkit,
    "library": _library,
    "python": _python,
    "framework": _framework,
    "package": _package,
    "environ": _environ,
}
