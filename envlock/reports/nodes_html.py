"""A fleet as one self-contained HTML file: what stands out, a map of the nodes, and a grid of them by layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from envlock.manifest.node_names import fold
from envlock.reports import story as told
from envlock.reports.html import brief, change_row, coded, document, escaped, marked, valued
from envlock.reports.style import show

if TYPE_CHECKING:
    from envlock.compare.model import Change
    from envlock.compare.nodes import NodesComparison, Oddity
    from envlock.locks.nodes import NodesVerification
    from envlock.reports.story import Layer
    from envlock.rules.model import Finding

MAPPED = 4096
"""Nodes that the map draws at most; the grid has all of them in any case."""

ROWS_SHOWN = 200
RANGES_SHOWN = 12
CELL_LIMIT = 28
"""Characters of a value in the grid; the tables below hold it whole."""


class _Row(NamedTuple):
    """Nodes that are alike: what sets them apart, and which of that is to blame."""

    nodes: tuple[str, ...]
    words: str
    changes: tuple[Change, ...] = ()
    blamed: frozenset[str] = frozenset()
    findings: tuple[Finding, ...] = ()


def comparison(result: NodesComparison) -> str:
    """Render a comparison."""
    rows = [
        _Row(
            group.members,
            told.node_group_title(group, result.grouping),
            group.changes,
            _blamed(result.oddities, group.members, group.changes),
        )
        for group in result.groups
    ]
    lead = _lead(result.oddities, "Every fact that all of them could see is the same.", len(rows) > 1)
    parts = [*_oddities(result.oddities), *_nodes(rows, result, ("the others", "these nodes"))]
    return document("envlock fleet diff", told.nodes_title(result), lead, parts)


def verification(result: NodesVerification, lock: str) -> str:
    """Render a verification."""
    rows = [_Row(result.matching, told.plural(len(result.matching), "node") + " as locked")]
    rows += [
        _Row(
            each.nodes,
            told.plural(len(each.nodes), "node") + " off the lock",
            each.result.drift,
            frozenset(finding.subject for finding in each.result.findings),
            each.result.findings,
        )
        for each in result.drifted
    ]
    rows = [row for row in rows if row.nodes]
    lead = _lead(result.oddities, "Every node is what its lock says.", bool(result.drifted))
    parts = [*_oddities(result.oddities), *_nodes(rows, result, ("lock", "now"))]
    return document("envlock fleet verify", told.nodes_verification_title(result, lock), lead, parts)


def _lead(oddities: Sequence[Oddity], equal: str, differs: bool) -> str:
    if oddities and oddities[0].severity != "note":
        message = oddities[0].finding.message
        return message if message.endswith(".") else message + "."
    return "They differ, and no difference is known to break anything." if differs else equal


def _blamed(oddities: Sequence[Oddity], nodes: Sequence[str], changes: Iterable[Change]) -> frozenset[str]:
    """Return the changes of these nodes that an error is about."""
    graver = [each for each in oddities if each.severity == "error" and set(each.nodes) & set(nodes)]
    subjects = [finding.subject for each in graver for finding in (each.finding, *each.consequences)]
    subjects += [address for each in graver if each.cause for address in each.cause.addresses]
    return frozenset(each.address for each in changes if any(_is_of(each, subject) for subject in subjects))


def _is_of(change: Change, subject: str) -> bool:
    return told.touching(subject, (change,)) is not None


def _oddities(oddities: Sequence[Oddity]) -> Iterator[str]:
    """Yield a card for each; notes are folded."""
    graver = [each for each in oddities if each.severity != "note"]
    notes = [each for each in oddities if each.severity == "note"]
    if graver:
        yield "<h2>What stands out</h2>"
        yield from _cards(graver)
    if notes:
        yield f'<details class="fold paper"><summary>{told.plural(len(notes), "note")}</summary>'
        yield from _cards(notes)
        yield "</details>"


def _cards(oddities: Sequence[Oddity]) -> Iterator[str]:
    for each in oddities:
        kind = " proven" if each.severity == "error" else ""
        yield f'<section class="card{kind}"><p>{marked(each.severity, each.severity)} {escaped(each.finding.message)}</p>'
        if each.cause:
            moved = f"{valued(each.cause.before)} → {valued(each.cause.after)}"
            yield f"<p>{marked('cause', 'proven cause')} {coded(each.cause.address)} {moved}</p>"
        evidence = "".join(
            f'<tr><th scope="row">{escaped(fact.address)}</th><td>{valued(fact.value)}</td></tr>'
            for fact in each.finding.evidence
        )
        yield f'<p class="who">{coded(each.finding.rule)} {escaped(each.finding.source)}</p>'
        if evidence:
            yield '<details class="fold"><summary>Evidence</summary>'
            yield f'<table class="single"><tbody>{evidence}</tbody></table></details>'
        yield "</section>"


def _nodes(
    rows: Sequence[_Row], result: NodesComparison | NodesVerification, sides: tuple[str, str]
) -> Iterator[str]:
    yield "<h2>The nodes</h2>"
    yield from _map(rows, result)
    yield from _grid(rows[:ROWS_SHOWN])
    if len(rows) > ROWS_SHOWN:
        left = sum(len(row.nodes) for row in rows[ROWS_SHOWN:])
        yield f'<p class="note">and {len(rows) - ROWS_SHOWN:,} more rows, {told.plural(left, "node")}</p>'
    for row in rows[:ROWS_SHOWN]:
        yield from _row_details(row, sides)
    if result.failed:
        yield "<h2>Without a manifest</h2>"
        yield '<table class="single"><thead><tr><th scope="col">Nodes</th><th scope="col">Why</th></tr></thead><tbody>'
        for nodes, reason in told.failed_nodes(result.failed):
            yield f'<tr><th scope="row">{escaped(fold(nodes))}</th><td>{escaped(reason)}</td></tr>'
        yield "</tbody></table>"
    if result.own:
        own = ", ".join(map(coded, result.own))
        yield f'<p class="note">Each node has its own, so that it was not compared: {own}</p>'
    for addresses, names in told.unseen_on(result.unobserved):
        yield f'<p class="note">Not seen, and so not compared: {coded(addresses)} ({escaped(names)})</p>'
    if result.uncompared:
        yield f'<p class="note">Too many kinds of node, not compared: {escaped(fold(result.uncompared))}</p>'


def _map(rows: Sequence[_Row], result: NodesComparison | NodesVerification) -> Iterator[str]:
    """Draw a square for each node, in order of their names, so that what lies in one rack is seen."""
    states = dict.fromkeys(result.failed, "lost") | dict.fromkeys(result.uncompared, "lost")
    for row in rows:
        state = "fails" if row.blamed else "moves" if row.changes or row.findings else ""
        states |= dict.fromkeys(row.nodes, state)
    names = sorted(states)
    if len(names) < 2 or len(names) > MAPPED:
        return
    squares = "".join(
        f'<span class="{states[name]}" title="{escaped(name)}"></span>'
        if states[name]
        else f'<span title="{escaped(name)}"></span>'
        for name in names
    )
    yield f'<div class="map" aria-hidden="true">{squares}</div>'
    legend = (("", "alike"), ("moves", "apart"), ("fails", "apart, and an error"), ("lost", "no manifest"))
    shown = [(state, words) for state, words in legend if state in states.values()]
    keys = "".join(
        f'<span><span class="map" aria-hidden="true"><span class="{state}"></span></span>{words}</span>'
        for state, words in shown
    )
    yield f'<p class="key">{keys}</p>'


def _grid(rows: Sequence[_Row]) -> Iterator[str]:
    """Draw rows of equal nodes by those layers in which any of them differ."""
    moved = {told.layer_of(change.address) for row in rows for change in row.changes}
    layers = [layer for layer in told.LAYERS if layer in moved]
    same = [layer.title for layer in told.LAYERS if layer not in moved]
    if not layers:
        return
    heads = "".join(f'<th scope="col">{layer.title}</th>' for layer in layers)
    yield f'<table class="grid"><thead><tr><th scope="col">Nodes</th>{heads}</tr></thead><tbody>'
    for row in rows:
        names = f"{escaped(fold(row.nodes, RANGES_SHOWN))} <span class='count'>{escaped(row.words)}</span>"
        cells = "".join(_cell(layer, row) for layer in layers)
        yield f'<tr><th scope="row">{names}</th>{cells}</tr>'
    yield "</tbody></table>"
    if same:
        yield f'<p class="note">The same on all of them: {escaped(", ".join(same))}.</p>'


def _cell(layer: Layer, row: _Row) -> str:
    changes = [change for change in row.changes if told.layer_of(change.address) is layer]
    if not changes:
        return '<td class="same"><span aria-label="the same">·</span></td>'
    roots = told.roots_within(changes)
    first = min(roots, key=lambda root: root.change.address not in row.blamed).change
    more = f'<span class="count">and {len(roots) - 1:,} more</span>' if len(roots) > 1 else ""
    kind = ' class="fails"' if any(change.address in row.blamed for change in changes) else ""
    name = (
        ""
        if layer.key in ("driver", "gpu")
        else f'<span class="count">{escaped(_short(first.address))}</span>'
    )
    said = escaped(show(brief(first.after), CELL_LIMIT))
    return f'<td{kind} data-side="{layer.title}">{name}<span>{said}</span>{more}</td>'


def _short(address: str) -> str:
    """Return the last word of an address: a package's name, a variable."""
    section, _, rest = address.partition(".")
    return rest.partition(".")[2] or rest if section == "package" else rest or section


def _row_details(row: _Row, sides: tuple[str, str]) -> Iterator[str]:
    if not row.changes and not row.findings:
        return
    title = f"{escaped(fold(row.nodes, 4))}: {told.plural(len(row.changes), 'difference')}"
    yield f'<details class="fold paper"><summary>{title}</summary>'
    if len(row.nodes) > 1:
        yield f'<p class="people">{escaped(fold(row.nodes))}</p>'
    for finding in row.findings:
        severity = finding.severity or "error"
        yield f"<p>{marked(severity, severity)} {escaped(finding.message)}</p>"
    heads = "".join(f'<th scope="col">{name.capitalize()}</th>' for name in sides)
    yield f'<table class="pair"><thead><tr><th scope="col">Fact</th>{heads}</tr></thead><tbody>'
    roots = told.roots(row.changes)
    for root in roots[:ROWS_SHOWN]:
        mark = marked("cause", "to blame") if root.change.address in row.blamed else ""
        yield change_row(root.change, sides, mark)
        yield from (change_row(each, sides, "", follows=True) for each in root.followers)
    yield "</tbody></table>"
    if len(roots) > ROWS_SHOWN:
        yield f'<p class="note">and {len(roots) - ROWS_SHOWN:,} more</p>'
    yield "</details>"
