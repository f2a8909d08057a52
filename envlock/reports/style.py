"""Colour and safe text for a terminal."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, TextIO

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
SEVERITY_COLOURS = {"error": "red", "warning": "yellow", "note": "blue"}


class Style:
    """Paints text, or leaves it plain."""

    def __init__(self, *, colour: bool) -> None:
        self.colour = colour

    def paint(self, text: str, *names: str) -> str:
        """Return text in these colours; plain where colour is off."""
        if not self.colour or not names:
            return text
        return f"\x1b[{';'.join(_CODES[name] for name in names)}m{text}\x1b[0m"


def wants_colour(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether to colour: on a terminal only, NO_COLOR off (no-color.org), FORCE_COLOR on."""
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and environ.get("TERM") != "dumb"


def safe(text: str) -> str:
    """Return outside text fit to print: no control or direction characters, one line."""
    return _UNSAFE.sub("\ufffd", text.replace("\n", " "))


def show(value: Any, limit: int = 100, missing: str = "not there") -> str:
    """Return a fact's value in a few words, safe to print; ``missing`` says what None means."""
    return missing if value is None else safe(_clip(_words(value), limit))


def _clip(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _words(value: Any) -> str:
    if value is None:
        return "not there"
    if value == "":
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return _table(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(_words(item) for item in value) or "none"
    return str(value)


def _table(table: Mapping[str, Any]) -> str:
    """Say a package, a GPU or a library by what people call it."""
    if "compute_capability" in table or "memory_mib" in table:
        count = f"{table['count']} x " if table.get("count", 1) != 1 else ""
        capability = (
            f" (sm_{table['compute_capability'].replace('.', '')})" if table.get("compute_capability") else ""
        )
        return f"{count}{table.get('name', 'GPU')}{capability}"
    head = str(table.get("version", "")) or str(table.get("name", ""))
    extra = [str(table[key]) for key in ("build", "channel", "source") if table.get(key)]
    if table.get("path"):
        extra.append(str(table["path"]))
    if table.get("shadowed_by"):
        extra.append(f"hidden by {table['shadowed_by']}")
    if not head and not extra:
        return "version not known" if not table else ", ".join(f"{k} {_words(v)}" for k, v in table.items())
    return f"{head} ({', '.join(extra)})" if extra and head else head or ", ".join(extra)
