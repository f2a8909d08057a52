"""All that a check says of broken stacks, one file a layer: each was judged by a reader, and is held word for word.

A file holds sections: ``=== title``, the stack without its schema line, ``---``, what ``envlock check --all`` prints,
then for each finding what it blames and what its fixes change. UPDATE_GOLDEN=1 writes that part anew. Where a
finding cites its matrix row, the row's source is left out: it is the matrix's to word.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from envlock.manifest.read import loads
from envlock.matrix.loader import load
from envlock.reports import text
from envlock.reports.style import Style, show
from envlock.rules.engine import run
from envlock.rules.model import Finding

GOLDEN = Path(__file__).parent / "golden"
MATRIX = load()
CITED = {
    row["source"]
    for subject in MATRIX.subjects()
    for kind in MATRIX.kinds(subject)
    for row in MATRIX.rows(subject, kind)
}


def sections(path: Path) -> list[str]:
    """Return a file's sections, each from its title on."""
    return ["=== " + each for each in path.read_text(encoding="utf-8").split("=== ")[1:]]


def title(section: str) -> str:
    """Return the words of a section's first line."""
    return section.partition("\n")[0].removeprefix("=== ")


SECTIONS = [
    pytest.param(path, section, id=f"{path.stem}-{title(section)}")
    for path in sorted(GOLDEN.glob("*.txt"))
    for section in sections(path)
]


def blamed(finding: Finding) -> list[str]:
    """Return the line that names the fact to blame, and a line for each fix that was tried."""
    marks = ["quiet"] * finding.quiet + ["breaks nothing"] * (not finding.breaks)
    marks += [f"rank {finding.rank}"] * bool(finding.rank)
    head = f"{finding.rule} ({finding.layer}) blames {finding.subject}" + "".join(
        f", {mark}" for mark in marks
    )
    fixes = [
        f"    {fix.address} to {fix.to}: "
        + ", ".join(f"{key} = {show(value)}" for key, value in fix.trial.items())
        for fix in finding.fixes
    ]
    return [head, *fixes]


def said(stack: str) -> str:
    """Return what a check says of a stack."""
    result = run(loads('schema = "envlock/1"\n' + stack), MATRIX)
    lines = [line for finding in result.findings for line in blamed(finding)]
    findings = tuple(
        msgspec.structs.replace(each, source="the matrix row's") if each.source in CITED else each
        for each in result.findings
    )
    result = msgspec.structs.replace(result, findings=findings)
    return text.check(result, Style(colour=False), everything=True) + "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize(("path", "section"), SECTIONS)
def test_a_check_says_what_a_reader_judged(path: Path, section: str) -> None:
    head, line, _ = section.partition("---\n")
    now = head + line + said(head.partition("\n")[2]) + "\n"
    if os.environ.get("UPDATE_GOLDEN") and now != section:
        path.write_text(path.read_text(encoding="utf-8").replace(section, now), encoding="utf-8")
        return
    assert section.rstrip() == now.rstrip(), f"{path.name} differs; UPDATE_GOLDEN=1 writes it anew"
