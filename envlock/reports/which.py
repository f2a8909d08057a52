"""The copies of a library and where each framework's search ends, as text and JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from envlock.reports.style import Style, safe

if TYPE_CHECKING:
    from envlock.probe.libraries import Which


def as_text(library: str, answer: Which, style: Style) -> str:
    """Render the winner of each framework with its line of reasoning, then every copy."""
    if not answer.copies:
        return f"no copy of {safe(library)} was found\n"
    versions = {copy.path: copy.version for copy in answer.copies}
    lines = []
    for search in answer.searches:
        if search.winner is None:
            lines += [
                f"{style.paint(safe(search.framework), 'bold')} finds no copy",
                f"    {safe(search.how)}",
            ]
            continue
        version = versions.get(search.winner) or "version not known"
        lines.append(
            f"{style.paint(safe(search.framework), 'bold')} loads {safe(search.winner)}  ({safe(version)})"
        )
        lines.append(f"    {safe(search.how)}")
    if not answer.searches:
        lines.append(f"no framework of this environment loads {safe(library)}")
    lines += ["", f"{len(answer.copies)} {'copy' if len(answer.copies) == 1 else 'copies'}:"]
    used = {search.winner for search in answer.searches}
    for copy in answer.copies:
        mark = "*" if copy.path in used else " "
        lines.append(
            f"  {mark} {safe(copy.version or 'version not known'):<18} {safe(copy.provider or 'file'):<32} {safe(copy.path)}"
        )
    return "\n".join(lines) + "\n"


def as_json(library: str, answer: Which) -> str:
    """Render the same as one JSON object: ``copies`` and ``searches``."""
    fields = ("name", "soname", "path", "version", "cuda", "provider", "used_by")
    copies = [
        {field: getattr(copy, field) for field in fields if getattr(copy, field)} for copy in answer.copies
    ]
    return json.dumps(
        {
            "schema": "envlock-which/1",
            "library": library,
            "copies": copies,
            "searches": [search._asdict() for search in answer.searches],
        },
        indent=2,
    ) + "\n"  # fmt: skip
