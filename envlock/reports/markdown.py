"""Results as GitHub-flavoured Markdown for a pull request: the cause first, tables after, details folded.

Nothing from outside is markup: values stand in code, prose has its special characters as entities
(CommonMark 0.31, section 2.5: an entity never stands for a structural character), and what GitHub would
turn into a mention, an issue or a link is broken by a zero-width space.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from envlock.reports import story as told
from envlock.reports.style import safe, show

if TYPE_CHECKING:
    from envlock.compare.groups import Group, Grouping
    from envlock.compare.model import Change
    from envlock.reports.story import Side, Story, Told
    from envlock.rules.model import Finding

CAUSES_SHOWN = 3
ROWS_SHOWN = 120
"""Rows of one table; GitHub takes 65,536 characters in a comment, and a row has some 200."""

GROUPS_SHOWN = 20
MEMBERS_SHOWN = 12
GROUP_ROWS_SHOWN = 20
VALUE_LIMIT = 80
SEVERITY_MARKS = {"error": "❌", "warning": "⚠️", "note": "ℹ️"}

_SPECIAL = re.compile(r"[\\`*\[\]<>#!|~&$^{}]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|\A[-+=]|(?<=\A\d)[.)]")
_COMMAND = re.compile(r": (?=(?:pip|uv|conda|mamba|pixi|apt|apt-get|dnf|export|unset) )")
_LINK = re.compile(r"https://[A-Za-z0-9./?=_~%#:+-]+\Z")
_GAP = "&#8203;"


def prose(text: str) -> str:
    """Return outside text as Markdown prose that reads the same and marks nothing up."""
    plain = _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", safe(text).strip())
    plain = re.sub(r"(?i)\b(https?|ftp|mailto|xmpp):", rf"\1{_GAP}:", plain)
    plain = re.sub(r"(?i)\b(www)\.", rf"\1{_GAP}.", plain)
    plain = re.sub(r"(?i)\b(gh)-(?=\d)", rf"\1{_GAP}-", plain)
    return plain.replace("@", f"@{_GAP}").replace("&#35;", f"&#35;{_GAP}")


def with_command(text: str) -> str:
    """Return advice as prose, and the command that it ends with as code, fit to be copied."""
    words, *command = _COMMAND.split(text, maxsplit=1)
    return f"{prose(words)}: {code(command[0])}" if command else prose(text)


def code(text: str) -> str:
    """Return outside text as code: backticks where it is harmless between them, else escaped character by character."""
    text = safe(text).strip()
    if not text:
        return ""
    if not re.search(r"[`|\\]", text):
        return f"`{text}`"
    return "<code>" + re.sub(r"[^A-Za-z0-9 .,:/-]", lambda m: f"&#{ord(m[0])};", text) + "</code>"


def value(held: Any, limit: int = VALUE_LIMIT) -> str:
    """Return a fact's value as code; what is not there is said in words."""
    return "—" if held is None else code(show(held, limit))


def page(story: Story, *, everything: bool = False) -> str:
    """Render a story by what it tells."""
    render = {"check": check, "verify": verification, "diff": difference}[story.command]
    return render(story, everything=everything)


def check(story: Story, *, everything: bool = False) -> str:
    """Render a check."""
    lines = _head(story)
    lines += _finding_list((finding for _, finding in story.findings), everything)
    return joined([*lines, *_unseen(story), *_unknown(story)])


def verification(story: Story, *, everything: bool = False) -> str:
    """Render a verify."""
    lines = _head(story)
    lines += _finding_list((finding for _, finding in story.findings), everything)
    drift = [root.change for root in told.roots(story.changes)]
    if drift:
        lines += ["", *table_of(("Fact", "Locked", "Now", ""), map(_change_cells, drift[:ROWS_SHOWN]))]
        lines += left_out(len(drift) - ROWS_SHOWN, "facts")
        followers = [change for change in story.changes if change.folded_under]
        lines += _changes_folded(followers, story.sides, everything, "moved with them")
    if story.hint:
        lines += ["", f"{prose(story.hint[0])}: {code(story.hint[1])}"]
    return joined([*lines, *_unseen(story), *_unknown(story)])


def difference(story: Story, *, everything: bool = False) -> str:
    """Render a diff."""
    lines = _head(story)
    proven = [each for each in story.causes if each.cause.proven]
    shown = story.causes if everything else (proven or list(story.causes))[:CAUSES_SHOWN]
    for place, each in enumerate(shown, 1):
        lines += ["", *_cause(place, each, story)]
    others = [each for each in story.causes if each not in shown]
    if others:
        limit = len(others) if everything else ROWS_SHOWN
        rows = ((code(e.cause.address), *_moved(e.cause), prose(e.cause.why)) for e in others[:limit])
        table = table_of(("Fact", *_sides(story.sides), "Why here"), rows)
        lines += folded(
            f"{told.plural(len(others), 'other difference')} that may matter",
            [*table, *left_out(len(others) - limit, "differences")],
        )
    lines += _changes_folded(story.changes, story.sides, everything)
    known = {each.finding.identity for each in story.causes if each.finding}
    rest = [(role, finding) for role, finding in story.findings if finding.identity not in known]
    lines += folded(
        f"{told.plural(len(rest), 'other finding')}",
        [
            f"- {'both' if not role else prose(role)}: {_short(finding)}"
            for role, finding in rest[:ROWS_SHOWN]
        ],
    )
    return joined([*lines, *_unseen(story), *_unknown(story)])


def groups(grouping: Grouping, *, everything: bool = False) -> str:
    """Render the groups of many machines."""
    lines = [f"### envlock: {told.groups_title(grouping)}"]
    limit = len(grouping.groups) if everything else GROUPS_SHOWN
    rows = (
        (
            str(place),
            str(len(group.members)),
            _members(group, MEMBERS_SHOWN),
            _apart(group),
        )
        for place, group in enumerate(grouping.groups[:limit], 1)
    )
    lines += ["", *table_of(("", "Machines", "", "What sets it apart"), rows)]
    lines += left_out(len(grouping.groups) - limit, "groups")
    for place, group in enumerate(grouping.groups[:limit], 1):
        body = _group(group, everything)
        lines += folded(f"Group {place}: {prose(told.group_title(group, grouping))}", body)
    return joined(lines)


def changes_table(changes: Sequence[Change], sides: tuple[str, str], everything: bool) -> list[str]:
    """Return a table of root changes, each with the number of those that moved with it."""
    found = told.roots(changes)
    limit = len(found) if everything else GROUP_ROWS_SHOWN
    rows = (_change_cells(root.change, len(root.followers)) for root in found[:limit])
    return [*table_of(("Fact", *sides, ""), rows), *left_out(len(found) - limit, "facts")]


def _group(group: Group, everything: bool) -> list[str]:
    lines: list[str] = []
    if len(group.members) > MEMBERS_SHOWN:
        lines += [_members(group, len(group.members)), ""]
    lines += [f"- {_short(finding)}" for finding in group.findings]
    if group.changes:
        lines += ["", *changes_table(group.changes, ("Reference", "This group"), everything)]
    for address, names in told.unseen_by(group.unobserved):
        lines += ["", f"Not compared: {code(address)} ({prose(told.members(names, MEMBERS_SHOWN))})"]
    return lines


def _members(group: Group, limit: int) -> str:
    shown = ", ".join(code(name) for name in group.members[:limit])
    left = len(group.members) - limit
    return f"{shown} and {left:,} more" if left > 0 else shown


def _apart(group: Group) -> str:
    if group.reference:
        return prose(group.findings[0].message) if group.findings else "the others are compared with it"
    if group.findings:
        return f"{SEVERITY_MARKS[group.findings[0].severity or 'error']} {prose(group.findings[0].message)}"
    found = told.roots(group.changes)
    said = ", ".join(code(root.change.address) for root in found[:3])
    return f"{said} and {len(found) - 3} more" if len(found) > 3 else said


# ---- parts -------------------------------------------------------------------------------------------


def _head(story: Story) -> list[str]:
    return [f"### envlock: {prose(story.title)}", "", f"**{prose(story.lead)}**"]


def joined(lines: Iterable[str]) -> str:
    """Return the lines as a page, with one empty line between paragraphs at most."""
    return re.sub("\n{3,}", "\n\n", "\n".join(lines)).rstrip("\n") + "\n"


def _cause(place: int, each: Told, story: Story) -> list[str]:
    cause = each.cause
    before, after = _moved(cause)
    if not cause.proven:
        return [f"{place}. Maybe {code(cause.address)}: {before} → {after}  ", f"   {prose(cause.why)}"]
    said = each.finding is None or told.is_lead(each, story)
    finding = "" if said or not each.finding else f": {prose(each.finding.message)}"
    together = f" and {len(cause.addresses) - 1} that moved with it" if len(cause.addresses) > 1 else ""
    lines = [
        f"{place}. **Cause: {code(cause.address)}** {before} → {after}{together}  ",
        f"   Proven on paper: put back, the finding is gone ({code(cause.rule)}){finding}",
    ]
    if each.links:
        facts = (
            (code(link.address), value(link.value), "differs" if link.change else "the same on both sides")
            for link in each.links
        )
        where = next(
            (role for role, finding in story.findings if finding is each.finding and role), story.bad
        )
        table = table_of(("The finding connects", where or "value", ""), facts)
        lines += ["", *(f"   {line}" for line in table)]
    return lines


def _moved(held: Any) -> tuple[str, str]:
    return value(held.before), value(held.after)


def _sides(sides: Sequence[Side]) -> tuple[str, ...]:
    return tuple(prose(side.name) for side in sides)


def _change_cells(change: Change, followers: int = 0) -> tuple[str, ...]:
    kind = told.KINDS.get(change.kind, change.size if change.size != "unknown" else "")
    more = f"{followers} moved with it" if followers else ""
    return (code(change.address), *_moved(change), ", ".join(filter(None, (kind, more))))


def _changes_folded(
    changes: Sequence[Change], sides: Sequence[Side], everything: bool, words: str = ""
) -> list[str]:
    rows: list[tuple[str, ...]] = []
    found = told.roots(changes) if not words else [told.Root(change, ()) for change in changes]
    for root in found:
        rows.append(_change_cells(root.change))
        rows += [("↳ " + cells[0], *cells[1:]) for cells in map(_change_cells, root.followers)]
    if not rows:
        return []
    limit = len(rows) if everything else ROWS_SHOWN
    title = f"{len(rows):,} {words}" if words else f"All {told.plural(len(rows), 'difference')}"
    table = table_of(("Fact", *_sides(sides), ""), rows[:limit])
    return folded(title, [*table, *left_out(len(rows) - limit, "differences")])


def _finding_list(findings: Iterable[Finding], everything: bool) -> list[str]:
    lines: list[str] = []
    notes: list[Finding] = []
    for finding in findings:
        if finding.severity == "note" and not everything:
            notes.append(finding)
            continue
        lines += ["", f"- {_short(finding)}"]
        lines += [f"  - **Fix:** {with_command(fix.message)}" for fix in finding.fixes]
        if finding.evidence:
            rows = [(code(each.address), value(each.value)) for each in finding.evidence]
            lines += [f"  {line}" for line in folded("Evidence", table_of(("Fact", "Value"), rows))]
    return lines + folded(told.plural(len(notes), "note"), [f"- {_short(note)}" for note in notes])


def _short(finding: Finding) -> str:
    source = f" ([source]({finding.source}))" if _LINK.match(finding.source) else ""
    mark = SEVERITY_MARKS[finding.severity or "error"]
    return f"{mark} {prose(finding.message)} {code(finding.rule)}{source}"


def _unseen(story: Story) -> list[str]:
    rows = [
        f"- {code(each.address)}{f' ({prose(each.side)})' if each.side else ''}: {prose(each.reason)}"
        for each in story.unobserved
    ]
    title = "Not compared, because one side could not see it" if len(story.sides) > 1 else "Could not be seen"
    return folded(title, rows)


def _unknown(story: Story) -> list[str]:
    rows = [f"- {prose(each.needs)} {code(each.rule)}" for each in story.unknown]
    return folded(f"{told.plural(len(rows), 'question')} that could not be judged", rows)


def folded(title: str, body: Sequence[str]) -> list[str]:
    """Fold something; GitHub reads the inside as Markdown only after an empty line."""
    if not body:
        return []
    return ["", "<details>", f"<summary>{title}</summary>", "", *body, "", "</details>"]


def table_of(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a table; the cells are Markdown already."""
    lines = [_row(head), _row(["---"] * len(head))]
    return lines + [_row(row) for row in rows]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def left_out(count: int, what: str) -> list[str]:
    """Say how many are not listed."""
    return ["", f"and {count:,} more {what} (`--all` lists them)"] if count > 0 else []
