"""Results as one self-contained HTML file: the answer, its chain of consequence, and the stack drawn in layers.

Everything from outside passes through ``escaped``; there is no attribute that holds outside text but
``data-side`` and ``title``, which are escaped the same way. Anchors are built from the fixed keys of the layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from envlock.reports import html_parts
from envlock.reports import story as told
from envlock.reports.story import Link
from envlock.reports.style import safe, show

if TYPE_CHECKING:
    from envlock.compare.groups import Group, Grouping
    from envlock.compare.model import Cause, Change
    from envlock.reports.story import Layer, Root, Side, Story, Told
    from envlock.rules.model import Finding

CAUSES_SHOWN = 3
FACTS_IN_SLAB = 4
MEMBERS_SHOWN = 24
GROUP_ROWS_SHOWN = 200
VALUE_LIMIT = 400
"""Characters of a value at most; a list of search paths is longer than anyone reads."""

_LINK = re.compile(r"https://[A-Za-z0-9./?=_~%#:+&;,-]+\Z")


def page(story: Story) -> str:
    """Render a check, a verify or a diff."""
    parts = [*_answer(story)]
    if story.command != "diff":
        parts += _own_findings(story)
    if story.drawn:
        parts += _stack(story)
    elif story.changes:
        rows = "".join(_root_rows(told.roots(story.changes), story.sides))
        parts += ["<h2>What moved</h2>", _table(story.sides, rows, "Facts that differ")]
    tail = [*_findings(story), *_unseen(story), *_unknown(story)]
    parts += ['<div class="tail">', *tail, "</div>"] if tail else []
    return document(f"envlock {story.command}", story.title, story.lead, parts)


def groups(grouping: Grouping) -> str:
    """Render the groups of three or more machines."""
    several = len(grouping.groups) > 1
    lead = (
        "Equal machines stand together; each group is described by what sets it apart from the first."
        if several
        else "Every fact that all of them could see is the same."
    )
    parts = [search_box()] if several else []
    for place, group in enumerate(grouping.groups, 1):
        parts += _group(place, group, grouping)
    return document("envlock diff", told.groups_title(grouping), lead, parts)


# ---- the document ------------------------------------------------------------------------------------


def document(command: str, title: str, lead: str, parts: Iterable[str]) -> str:
    """Return the whole page; the parts are HTML already."""
    body = "\n".join(parts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{html_parts.policy()}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="light dark">
<title>{escaped(title)}</title>
<style>{html_parts.STYLE}</style>
</head>
<body>
<header>
<p class="eyebrow">{escaped(command)}</p>
<h1>{escaped(title)}</h1>
<p class="lead">{escaped(lead)}</p>
</header>
<main>
{body}
</main>
<footer>Written by envlock. This file holds all it needs and asks nothing of the network.</footer>
<script>{html_parts.SCRIPT}</script>
</body>
</html>
"""


def escaped(text: str) -> str:
    """Return outside text fit to stand in HTML, in an element or a quoted attribute."""
    return escape(safe(text), quote=True)


def coded(text: str) -> str:
    """Return outside text as code."""
    return f"<code>{escaped(text)}</code>"


def valued(held: Any, *, stated: bool = True) -> str:
    """Return a fact's value in a few words."""
    missing = "not there" if stated else "not stated"
    return f'<span class="gone">{missing}</span>' if held is None else escaped(show(held, VALUE_LIMIT))


def marked(kind: str, words: str) -> str:
    """Return a small label; its kind is a severity, "cause" or "maybe"."""
    return f'<span class="mark {kind}">{escaped(words)}</span>'


def search_box() -> str:
    """Return the search for facts; the script shows it."""
    return (
        '<div class="search" hidden><label for="search">Search the facts</label>'
        '<input id="search" type="search" autocomplete="off" spellcheck="false" '
        'placeholder="a package, a version, a path">'
        '<output id="found" for="search" aria-live="polite"></output></div>'
    )


def _section(title: str, body: Sequence[str], *, paper: bool = False) -> list[str]:
    """Fold a section; ``paper`` unfolds it in print."""
    if not body:
        return []
    classes = "section paper" if paper else "section"
    return [f'<details class="{classes}"><summary><h2>{escaped(title)}</h2></summary>', *body, "</details>"]


# ---- the answer --------------------------------------------------------------------------------------


def _answer(story: Story) -> Iterator[str]:
    proven = [each for each in story.causes if each.cause.proven]
    shown = (proven or list(story.causes))[:CAUSES_SHOWN]
    if shown:
        words = "cause" if proven else "suspect"
        yield f"<h2>The {words}{'' if len(shown) == 1 else 's'}</h2>"
    for each in shown:
        yield from _cause(each, story)
    others = [each for each in story.causes if each not in shown]
    if others:
        yield '<details class="fold"><summary>'
        yield f"{told.plural(len(others), 'other difference')} that may matter, the likeliest first</summary>"
        yield '<ol class="list">'
        for each in others:
            moved = f"{valued(each.cause.before)} → {valued(each.cause.after)}"
            yield f"<li>{coded(each.cause.address)} {moved} <span class='who'>{escaped(each.cause.why)}</span></li>"
        yield "</ol></details>"
    if story.hint:
        yield f'<div class="card"><p>{escaped(story.hint[0])}: {coded(story.hint[1])}</p></div>'


def _cause(each: Told, story: Story) -> Iterator[str]:
    cause = each.cause
    mark = marked("cause", "proven cause") if cause.proven else marked("maybe", "maybe")
    yield f'<section class="card{" proven" if cause.proven else ""}"><h3>{mark} {coded(cause.address)}</h3>'
    yield _moved(cause, story.sides)
    if each.finding is None:
        yield f"<p>{escaped(cause.why)}</p></section>"
        return
    if not told.is_lead(each, story):
        yield f"<p>{escaped(each.finding.message)}</p>"
    yield '<ol class="chain" aria-label="Chain of consequence">'
    yield from _chain(each, story)
    yield "</ol></section>"


def _moved(cause: Cause, sides: Sequence[Side]) -> str:
    arrow = '<span class="arrow" aria-hidden="true">→</span> '
    cells = [
        f'<span>{arrow if place else ""}<span class="who">{escaped(side.name)}</span> <code>{valued(value)}</code></span>'
        for place, (side, value) in enumerate(zip(sides, (cause.before, cause.after), strict=True))
    ]
    return f'<p class="moved">{" ".join(cells)}</p>'


def _chain(each: Told, story: Story) -> Iterator[str]:
    """Yield the steps: what changed, which facts the finding connects it with, what follows, and the proof."""
    assert each.finding is not None
    cause = each.cause
    moved_with = len(cause.addresses) - 1
    more = f' <span class="who">{told.plural(moved_with, "fact")} moved with it</span>' if moved_with else ""
    yield f'<li class="root">{_jump(cause.address)} changed{more}</li>'
    own = set(cause.addresses)
    for link in each.links:
        if link.change is None or link.change.address not in own:
            yield f"<li>{_link(link, cause)}</li>"
    rule = each.finding.rule
    yield (
        f'<li class="end">{marked(each.finding.severity or "error", each.finding.severity or "error")} '
        f"{escaped(each.finding.message)}<span class='who'>{coded(rule)}{_source(each.finding)}</span></li>"
    )
    if cause.proven:
        yield f'<li class="end proof">Put back on paper, this finding is gone: {_together(cause)}.</li>'


def _together(cause: Cause) -> str:
    if len(cause.addresses) == 1:
        return f"the rule was run again with the other side’s {coded(cause.address)}"
    return f"the rule was run again with {len(cause.addresses)} facts of the other side"


def _link(link: Link, cause: Cause) -> str:
    state = "differs too" if link.change is not None else "the same on both sides"
    return f"meets {_jump(link.address)} <code>{valued(link.value)}</code> <span class='who'>{state}</span>"


def _jump(address: str) -> str:
    layer = told.layer_of(address)
    return f'<a href="#layer-{layer.key}">{coded(address)}</a>' if layer else coded(address)


def _source(finding: Finding) -> str:
    if not finding.source:
        return ""
    if _LINK.match(finding.source):
        return f' <a href="{escaped(finding.source)}" rel="noreferrer">source</a>'
    return f" source: {escaped(finding.source)}"


# ---- the stack, layer by layer -----------------------------------------------------------------------


def _stack(story: Story) -> Iterator[str]:
    one = len(story.sides) == 1
    yield "<h2>The stack, layer by layer</h2>"
    yield f'<p class="note">{_legend(story)}</p>'
    yield search_box()
    yield f'<div class="stack{" one" if one else ""}">'
    heads = "".join(_head(side, story.bad) for side in story.sides)
    yield f'<div class="heads"><span></span>{heads}</div>'
    held = [told.facts_by_layer(side.manifest) for side in story.sides]
    marks = _marks(story)
    for layer in told.LAYERS:
        yield from _layer(layer, story, [each[layer.key] for each in held], marks)
    yield "</div>"


def _legend(story: Story) -> str:
    if len(story.sides) == 1:
        return "From the GPU to what runs on it. Each layer opens to its facts."
    chain = " The red line joins the facts that the finding connects." if _linked(story) else ""
    return (
        "From the GPU to what runs on it. Layers that match are quiet; each one opens to all of its facts."
        + chain
    )


def _head(side: Side, bad: str) -> str:
    fails = f" {marked('cause', 'fails')}" if bad and side.role == bad else ""
    source = side.manifest.capture.source
    seen = {
        "live": "seen live",
        "root": "read from a folder",
        "image": "read from an image",
        "import": "from a report",
    }
    what = ", ".join(filter(None, (side.role, seen.get(source or "", ""))))
    return f'<span>{escaped(side.label)}{fails}<span class="who">{escaped(what)}</span></span>'


class _Line(NamedTuple):
    """The chain that is drawn beside the layers: where it starts, what moved with that, and the facts it joins."""

    origin: str
    addresses: tuple[str, ...]
    links: tuple[Link, ...]


def _linked(story: Story) -> _Line | None:
    """Return the chain of the first proven cause; in a check, that of the gravest finding."""
    for each in story.causes:
        if each.cause.proven and each.finding:
            return _Line(each.cause.address, each.cause.addresses, each.links)
    if story.command == "check" and story.findings and story.findings[0][1].severity != "note":
        finding = story.findings[0][1]
        links = (told.Link(each.address, each.value, None) for each in finding.evidence)
        others = tuple(link for link in links if link.address != finding.subject)
        return _Line(finding.subject, (finding.subject,), others)
    return None


def _marks(story: Story) -> dict[str, str]:
    """Return the classes that draw the chain beside the layers, by layer's key."""
    first = _linked(story)
    if first is None:
        return {}
    origin = told.layer_of(first.origin)
    touched = {told.layer_of(address) for address in first.addresses}
    touched |= {told.layer_of(link.address) for link in first.links}
    places = [place for place, layer in enumerate(told.LAYERS) if layer in touched]
    marks = {}
    for place in range(places[0], places[-1] + 1) if places else ():
        layer = told.LAYERS[place]
        classes = ["rail"]
        classes += ["first"] if place == places[0] else []
        classes += ["last"] if place == places[-1] else []
        classes += ["linked"] if layer in touched else []
        classes += ["origin"] if layer is origin else []
        marks[layer.key] = " ".join(classes)
    return marks


def _layer(
    layer: Layer, story: Story, held: Sequence[Mapping[str, Any]], marks: Mapping[str, str]
) -> Iterator[str]:
    changes = [change for change in story.changes if told.layer_of(change.address) is layer]
    unseen = [told.unseen_in(layer, side.manifest) for side in story.sides]
    if not any(held) and not any(unseen):
        return
    roots = told.roots_within(changes)
    classes = " ".join(
        filter(None, ("layer", "" if changes else "same", "paper" if changes else "", marks.get(layer.key)))
    )
    yield f'<details class="{classes}" id="layer-{layer.key}"><summary><h3>{layer.title}</h3>'
    if changes or (len(held) > 1 and any(not facts and why for facts, why in zip(held, unseen, strict=True))):
        for place, side in enumerate(story.sides):
            yield _slab(layer, side, held[place], roots, place, story)
    else:
        words = told.summary(layer, held[0], story.sides[0].manifest)
        both = "the same on both sides · " if len(held) > 1 else ""
        line = _linked(story) if len(held) == 1 else None
        kind = "fails" if line and told.layer_of(line.origin) is layer else "both"
        yield f'<div class="slab {kind}"><p>{both}{escaped(words)}</p>{_ties(layer, story)}</div>'
    yield '</summary><div class="facts">'
    yield from _facts(layer, story, held, roots, unseen)
    yield "</div></details>"


def _slab(
    layer: Layer, side: Side, held: Mapping[str, Any], roots: Sequence[Root], place: int, story: Story
) -> str:
    hot = _blamed(story, side)
    fails = any(root.change.address in hot for root in roots)
    if not held:
        reasons = "; ".join(told.unseen_in(layer, side.manifest).values())
        kind = "unseen" if reasons else "differs"
        words = f"not seen: {reasons}" if reasons else "nothing here"
        return f'<div class="slab {"fails" if fails else kind}"><p>{escaped(words)}</p></div>'
    words = told.summary(layer, held, side.manifest)
    shown = sorted(roots, key=lambda root: root.change.address not in hot)[:FACTS_IN_SLAB]
    rows = []
    for root in shown:
        value = root.change.after if place else root.change.before
        name = told.within(root.change.address)
        heat = ' class="hot"' if fails and root.change.address in hot else ""
        rows.append(f"<dt>{escaped(name)}</dt><dd{heat}>{valued(brief(value))}</dd>")
    listed = f"<dl>{''.join(rows)}</dl>" if layer.key != "gpu" and rows else ""
    left = len(roots) - len(shown)
    more = f"<p>and {left:,} more that differ</p>" if left > 0 else ""
    kind = "fails" if fails else "differs" if roots else ""
    # What differs says more than what the layer is, except where there is too much of it to be said.
    head = "" if listed and layer.key not in ("package", "environ") else f"<p>{escaped(words)}</p>"
    return f'<div class="slab {kind}">{head}{listed}{more}{_ties(layer, story, side)}</div>'


def _blamed(story: Story, side: Side) -> set[str]:
    """Return the addresses that a proven cause names, where the finding that it explains stands on this side."""
    own = {finding.identity for role, finding in story.findings if role in ("", side.role)}
    return {
        address
        for each in story.causes
        if each.cause.proven and each.finding and each.finding.identity in own
        for address in each.cause.addresses
    }


def _ties(layer: Layer, story: Story, side: Side | None = None) -> str:
    """Name the facts of a layer that the drawn chain runs through although they did not change."""
    first = _linked(story)
    if first is None or (side is not None and side.role != story.bad):
        return ""
    meets = ", which the cause meets" if len(story.sides) > 1 else ""
    ties = [
        f'<p class="tie">{escaped(told.within(link.address))} {valued(_short(link.value))}{meets}</p>'
        for link in first.links
        if link.change is None and told.layer_of(link.address) is layer
    ]
    return "".join(ties[:FACTS_IN_SLAB])


def brief(value: Any) -> Any:
    """Say the copies of a library by their versions; where they lie is in the layer's table."""
    if isinstance(value, list) and all(isinstance(each, dict) and each.get("version") for each in value):
        return _short([each["version"] for each in value])
    return _short(value)


def _short(value: Any) -> Any:
    return None if value is None else show(value, 60)


def _facts(
    layer: Layer,
    story: Story,
    held: Sequence[Mapping[str, Any]],
    roots: Sequence[Root],
    unseen: Sequence[Mapping[str, str]],
) -> Iterator[str]:
    if roots:
        rows = "".join(_root_rows(roots, story.sides, _hot(story)))
        yield _table(story.sides, rows, f"{layer.title}: what differs")
    changed = {each.address for root in roots for each in (root.change, *root.followers)}
    changed |= {each.address for each in story.changes}
    same = {address: value for facts in held for address, value in facts.items() if address not in changed}
    if same:
        words = "the same on both sides" if len(held) > 1 else "recorded"
        rows = "".join(_equal_row(address, same[address], held) for address in sorted(same))
        table = _table(story.sides, rows, f"{layer.title}: {words}", equal=True)
        if roots:
            yield f'<details class="fold"><summary>{told.plural(len(same), "fact")} {words}</summary>{table}</details>'
        else:
            yield table
    for side, reasons in zip(story.sides, unseen, strict=True):
        for address, reason in reasons.items():
            where = f" on {escaped(side.name)}" if len(story.sides) > 1 else ""
            yield f'<p class="note">Not seen{where}: {coded(address)}: {escaped(reason)}</p>'


def _hot(story: Story) -> dict[str, str]:
    """Return the mark of each fact that a cause names first."""
    found: dict[str, str] = {}
    for each in story.causes:
        if each.cause.proven:
            found.setdefault(each.cause.address, marked("cause", "cause"))
    return found


def _root_rows(
    roots: Iterable[Root], sides: Sequence[Side], hot: Mapping[str, str] | None = None
) -> Iterator[str]:
    names = [side.name for side in sides]
    for root in roots:
        yield change_row(root.change, names, (hot or {}).get(root.change.address, ""))
        for each in root.followers:
            yield change_row(each, names, "", follows=True)


def change_row(change: Change, names: Sequence[str], mark: str, *, follows: bool = False) -> str:
    """Return a change as a row: its address, and its value on either side."""
    kind = told.KINDS.get(change.kind, "") if change.kind not in ("added", "removed") else ""
    said = f' <span class="mark">{kind}</span>' if kind else ""
    cells = "".join(
        f'<td data-side="{escaped(name)}">{valued(value, stated=not change.one_sided)}</td>'
        for name, value in zip(names, (change.before, change.after), strict=True)
    )
    start = '<tr class="follows">' if follows else "<tr>"
    return f'{start}<th scope="row">{escaped(change.address)} {mark}{said}</th>{cells}</tr>\n'


def _equal_row(address: str, value: Any, held: Sequence[Mapping[str, Any]]) -> str:
    span = ' colspan="2"' if len(held) > 1 else ""
    known = all(address in facts for facts in held)
    aside = "" if known else ' <span class="who">(one side could not tell)</span>'
    return f'<tr class="equal"><th scope="row">{escaped(address)}</th><td{span}>{valued(value)}{aside}</td></tr>\n'


def _table(sides: Sequence[Side], rows: str, caption: str, *, equal: bool = False) -> str:
    if equal:
        span = ' colspan="2"' if len(sides) > 1 else ""
        heads = f'<th scope="col"{span}>Value</th>'
    else:
        heads = "".join(f'<th scope="col">{escaped(side.name)}</th>' for side in sides)
    kind = "pair" if len(sides) > 1 else "single"
    return (
        f'<table class="{kind}"><caption>{escaped(caption)}</caption>'
        f'<thead><tr><th scope="col">Fact</th>{heads}</tr></thead><tbody>{rows}</tbody></table>'
    )


# ---- the rest ----------------------------------------------------------------------------------------


def _findings(story: Story) -> list[str]:
    if story.command != "diff":
        return []
    return _section(f"Findings of the rules ({len(story.findings)})", _finding_list(story))


def _own_findings(story: Story) -> Iterator[str]:
    """Yield the findings of a check or verify: errors and warnings in full, notes folded."""
    graver = [finding for _, finding in story.findings if finding.severity != "note"]
    notes = [finding for _, finding in story.findings if finding.severity == "note"]
    if graver:
        yield "<h2>What is wrong</h2>"
    for finding in graver:
        kind = " proven" if finding.severity == "error" else ""
        yield f'<section class="card{kind}">{_finding(finding, fixes=True)}</section>'
    if notes:
        items = "".join(f"<li>{_finding(note, fixes=True)}</li>" for note in notes)
        yield f'<details class="fold paper"><summary>{told.plural(len(notes), "note")}</summary>'
        yield f'<ul class="list">{items}</ul></details>'


def _finding_list(story: Story) -> list[str]:
    if not story.findings:
        return []
    names = {side.role: side.label for side in story.sides if side.role}
    several = len(story.sides) > 1
    items = [
        f"<li>{_finding(finding, (names.get(role, role) if role else 'both sides') if several else '')}</li>"
        for role, finding in story.findings
    ]
    return ['<ul class="list">', *items, "</ul>"]


def _finding(finding: Finding, who: str = "", *, fixes: bool = False) -> str:
    severity = finding.severity or "error"
    evidence = "".join(
        f'<tr><th scope="row">{escaped(each.address)}</th><td>{valued(each.value)}</td></tr>'
        for each in finding.evidence
    )
    table = (
        '<details class="fold"><summary>Evidence</summary><table class="single"><tbody>'
        f"{evidence}</tbody></table></details>"
        if evidence
        else ""
    )
    where = f'<span class="who">{escaped(who)}</span> ' if who else ""
    # Only a check tries its fixes on paper; what was not tried is not advised.
    advice = "".join(f"<p><strong>Fix:</strong> {escaped(fix.message)}</p>" for fix in finding.fixes if fixes)
    return (
        f'<div class="finding"><p>{marked(severity, severity)} {where}{escaped(finding.message)}</p>'
        f'<p class="who">{coded(finding.rule)}{_source(finding)}</p>{advice}{table}</div>'
    )


def _unseen(story: Story) -> list[str]:
    items = [
        f"<li>{coded(each.address)} {f'<span class=who>{escaped(each.side)}</span> ' if each.side else ''}"
        f"{escaped(each.reason)}</li>"
        for each in story.unobserved
    ]
    title = "Not compared, because a side could not see it" if len(story.sides) > 1 else "Could not be seen"
    return _section(
        f"{title} ({len(items)})", ['<ul class="list">', *items, "</ul>"] if items else [], paper=True
    )


def _unknown(story: Story) -> list[str]:
    items = [
        f"<li>{escaped(each.needs)} <span class='who'>{coded(each.rule)}</span></li>"
        for each in story.unknown
    ]
    return _section(
        f"Could not be judged ({len(items)})",
        ['<ul class="list">', *items, "</ul>"] if items else [],
        paper=True,
    )


# ---- groups ------------------------------------------------------------------------------------------


def _group(place: int, group: Group, grouping: Grouping) -> Iterator[str]:
    yield f"<h2>Group {place}: {escaped(told.group_title(group, grouping))}</h2>"
    yield f'<section class="card{" proven" if group.causes else ""}">'
    yield f'<p class="people">{escaped(told.members(group.members, MEMBERS_SHOWN))}</p>'
    if len(group.members) > MEMBERS_SHOWN:
        names = "".join(f"<li>{escaped(name)}</li>" for name in group.members)
        yield f'<details class="fold"><summary>All {len(group.members):,}</summary><ul class="list">{names}</ul></details>'
    for cause, finding in told.explained(group):
        yield _finding(finding)
        if cause:
            proof = "proven: with the majority’s, the finding is gone" if grouping.has_majority else "proven"
            yield f"<p>{marked('cause', 'cause')} {coded(cause.address)} <span class='who'>{proof}</span></p>"
    if not group.reference:
        yield _strip(group)
        yield from _group_changes(group)
    missing = [
        f"<li>{coded(address)} <span class='who'>{escaped(told.members(who, MEMBERS_SHOWN))}</span></li>"
        for address, who in told.unseen_by(group.unobserved)
    ]
    if missing:
        yield f'<details class="fold"><summary>Not compared: {told.plural(len(missing), "fact")}</summary>'
        yield f'<ul class="list">{"".join(missing)}</ul></details>'
    yield "</section>"


def _strip(group: Group) -> str:
    """Draw the ten layers in a row: which of them move, and where the cause lies."""
    moved = {told.layer_of(change.address) for change in group.changes}
    causes = {told.layer_of(cause.address) for cause in group.causes}
    cells = []
    for layer in told.LAYERS:
        state = (
            ("fails", "cause")
            if layer in causes
            else ("moves", "differs")
            if layer in moved
            else ("", "same")
        )
        cells.append(f'<li class="{state[0]}" aria-label="{layer.title}: {state[1]}">{layer.title}</li>')
    return f'<ul class="strip" aria-label="Layers">{"".join(cells)}</ul>'


def _group_changes(group: Group) -> Iterator[str]:
    roots = told.roots(group.changes)
    shown = roots[:GROUP_ROWS_SHOWN]
    rows = []
    hot = {cause.address: marked("cause", "cause") for cause in group.causes}
    names = ("reference", "this group")
    for root in shown:
        rows.append(change_row(root.change, names, hot.get(root.change.address, "")))
        rows += [change_row(each, names, "", follows=True) for each in root.followers]
    heads = "".join(f'<th scope="col">{name.capitalize()}</th>' for name in names)
    yield f'<details class="fold paper"><summary>{told.plural(len(group.changes), "difference")}</summary>'
    yield '<table class="pair"><caption>What sets this group apart</caption>'
    yield f'<thead><tr><th scope="col">Fact</th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    left = len(roots) - len(shown)
    if left > 0:
        yield f'<p class="note">and {left:,} more</p>'
    yield "</details>"
