"""Manifest to TOML 1.0: one package a line, sections in stack order, stable spelling.

A writer of our own, because a general one costs more time than the whole capture; it writes the
subset of TOML that a manifest needs and nothing else.
"""

from __future__ import annotations

import datetime
import re
from typing import Any

from envlock.manifest.model import Manifest, to_sections

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
_UNSAFE = '[\\x00-\\x1f\\x7f-\\x9f"\\\\\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]'
"""What must not stand raw: TOML's own, and control and direction characters that could fool a terminal."""

_BLOCKS = frozenset({"capture.unobserved", "package.pip", "package.conda", "package.system", "lock.allow"})
"""Tables that get a header of their own; every other table below the first level is written inline."""


_HEADED = ("framework", "conda")
"""Sections whose every table gets a header."""


def write(manifest: Manifest) -> str:
    """Return the manifest as TOML text; reading it back gives an equal manifest."""
    plain = to_sections(manifest)
    lines = [f"schema = {_value(plain.pop('schema'))}"]
    for section, value in plain.items():
        if isinstance(value, dict):
            _table(lines, section, value)
        else:
            for entry in value:
                lines += ["", f"[[{section}]]", *_pairs(entry)]
    return "\n".join(lines) + "\n"


def _table(lines: list[str], address: str, table: dict[str, Any]) -> None:
    below: list[tuple[str, Any]] = []
    here: dict[str, Any] = {}
    for key, value in table.items():
        if f"{address}.{key}" in _BLOCKS or address in _HEADED:
            below.append((f"{address}.{_key(key)}", value))
        elif address == "lock" and key == "waiver":
            below += [(f"[{address}.{key}]", entry) for entry in value]
        else:
            here[key] = value
    if here:
        lines += ["", f"[{address}]", *_pairs(_ordered(address, here))]
    for header, value in below:
        lines += ["", f"[{header}]", *_pairs(_ordered(header, value))]


def _ordered(address: str, table: dict[str, Any]) -> dict[str, Any]:
    """Sort tables whose keys are names, keep the format's order where keys are fields."""
    if address in _BLOCKS or address in ("requires", "environ", "digest"):
        return dict(sorted(table.items()))
    return table


def _pairs(table: dict[str, Any]) -> list[str]:
    return [f"{_key(key)} = {_value(value)}" for key, value in table.items()]


def _key(key: str) -> str:
    return key if _BARE_KEY.match(key) else string(key)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return string(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        inner = ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, datetime.datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, datetime.date):
        return value.isoformat()
    return repr(value)


def string(text: str) -> str:
    """Return text as a TOML basic string; control and direction characters are escaped."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + re.sub(_UNSAFE, _escape, text) + '"'


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    if "\ud800" <= character <= "\udfff":
        # A byte of a name or an argument that was not UTF-8: TOML has no spelling for it.
        return "\ufffd"
    return _ESCAPES.get(character) or f"\\u{ord(character):04X}"
