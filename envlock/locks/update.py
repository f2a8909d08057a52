"""Takes a stack's drift into its lock through tomlkit, so that comments, order and ``[lock]`` survive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tomlkit
from tomlkit.items import AoT, InlineTable, Item, Table

from envlock.manifest.address import covers
from envlock.manifest.model import Manifest, to_plain

_KEPT = ("lock", "schema")
_BY_NAME = ("package", "framework", "requires", "environ")


def update(text: str, lock: Manifest, current: Manifest) -> str:
    """Return the lock's text with every fact as it is now; what could not be seen now stays as it was.

    ``text`` must be the text that ``lock`` was read from.
    """
    document = tomlkit.parse(text)
    wanted = to_plain(current)
    wanted.setdefault("capture", {}).update(
        {key: value for key, value in to_plain(lock).get("capture", {}).items() if key == "name"}
    )
    hidden = current.capture.unobserved
    for section in [key for key in document if key not in _KEPT]:
        if section not in wanted and not _hidden(hidden, section):
            del document[section]
    for section, value in wanted.items():
        if section in _KEPT or _hidden(hidden, section):
            continue
        if section in document:
            _sync(document, section, value, section, hidden)
        else:
            _insert_section(document, section, value)
    return tomlkit.dumps(document)


def _hidden(unobserved: Mapping[str, str], address: str) -> bool:
    return any(covers(each, address) for each in unobserved)


def _sync(table: Any, key: str, value: Any, address: str, hidden: Mapping[str, str]) -> None:
    """Bring one key to its value, touching only what differs."""
    held = table[key]
    if isinstance(value, dict) and isinstance(held, (Table, InlineTable)):
        for gone in [each for each in held if each not in value and not _hidden(hidden, f"{address}.{each}")]:
            del held[gone]
        missing = {each: item for each, item in value.items() if each not in held}
        for each, item in value.items():
            if each in held and not _hidden(hidden, f"{address}.{each}"):
                _sync(held, each, item, f"{address}.{each}", hidden)
        if missing:
            _add(table, key, missing, address)
    elif isinstance(value, list) and isinstance(held, AoT) and len(value) == len(held):
        for entry, item in zip(held, value, strict=True):
            for gone in [each for each in entry if each not in item]:
                del entry[gone]
            for each, part in item.items():
                if each not in entry or _plain(entry[each]) != part:
                    entry[each] = _item(part)
    elif _plain(held) != value:
        table[key] = _section(value) if isinstance(value, list) and isinstance(held, AoT) else _item(value)


def _add(table: Any, key: str, missing: dict[str, Any], address: str) -> None:
    """Add keys where they belong: in order of name among names, at the end among fields."""
    held = table[key]
    if (
        isinstance(held, InlineTable)
        or address.partition(".")[0] not in _BY_NAME
        or not _all_plain_keys(held)
    ):
        for each, item in missing.items():
            held[each] = _item(item)
        return
    fresh = tomlkit.table()
    pending = sorted(missing)
    for existing, item in held.value.body:
        while existing is not None and pending and pending[0] < existing.key:
            fresh.append(pending[0], _item(missing[pending.pop(0)]))
        if existing is None:
            fresh.value.append(None, item)
        else:
            fresh.append(existing, item)
    for each in pending:
        fresh.append(each, _item(missing[each]))
    fresh.comment(held.trivia.comment[1:].strip()) if held.trivia.comment else None
    table[key] = fresh


def _all_plain_keys(table: Any) -> bool:
    """Tell whether a table has only values of its own: no tables with headers below it to be moved."""
    return not any(isinstance(item, (Table, AoT)) for item in table.values())


def _plain(item: Any) -> Any:
    return item.unwrap() if isinstance(item, Item) else item


def _item(value: Any) -> Any:
    if isinstance(value, dict):
        inline = tomlkit.inline_table()
        for key, each in value.items():
            inline[key] = _item(each)
        return inline
    return tomlkit.item(value)


def _insert_section(document: Any, section: str, value: Any) -> None:
    document[section] = _section(value)


def _section(value: Any) -> Any:
    """Return a section as the writer would lay it out: tables with headers, packages inline."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        array = tomlkit.aot()
        for entry in value:
            table = tomlkit.table()
            for key, each in entry.items():
                table[key] = _item(each)
            array.append(table)
        return array
    if not isinstance(value, dict):
        return _item(value)
    nested = all(isinstance(each, dict) for each in value.values()) and any(
        isinstance(inner, (dict, str)) for each in value.values() for inner in each.values()
    )
    table = tomlkit.table(is_super_table=nested)
    for key, each in value.items():
        if nested:
            below = tomlkit.table()
            for name, inner in each.items():
                below[name] = _item(inner)
            table[key] = below
        else:
            table[key] = _item(each)
    return table
