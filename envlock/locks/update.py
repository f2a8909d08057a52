"""Takes a stack's drift into its lock through tomlkit, so that comments, order and ``[lock]`` survive."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, InlineTable, Item, Table

from envlock.errors import EnvlockError
from envlock.manifest.address import covers
from envlock.manifest.model import Manifest, to_plain
from envlock.manifest.read import loads

_KEPT = ("lock", "schema")
_SECTIONS = frozenset(Manifest.__struct_fields__).difference(_KEPT)
_BY_NAME = ("package", "conda", "framework", "requires", "environ")


class UpdateError(EnvlockError):
    """A lock that cannot be edited in place; the text names what to write otherwise."""


def update(text: str, lock: Manifest, current: Manifest) -> str:
    """Return the lock's text with every fact as it is now; what could not be seen now stays as it was.

    ``text`` must be the text that ``lock`` was read from; its line ends stay, and so does what is no part of
    a manifest. Raises UpdateError for a layout in which the edit would not come to these facts.
    """
    wanted = to_plain(current)
    if lock.capture.name is not None:
        wanted["capture"] = {**wanted.get("capture", {}), "name": lock.capture.name}
    try:
        result = _edit(tomlkit.parse(text), wanted, current.capture.unobserved)
    except TOMLKitError as error:
        raise UpdateError(f"cannot edit the lock in place: {error}") from None
    if "\r\n" in text and not re.search(r"(?<!\r)\n", text):
        result = re.sub(r"(?<!\r)\n", "\r\n", result)
    _hold(result, lock, wanted, current.capture.unobserved)
    return result


def _hold(result: str, lock: Manifest, wanted: dict[str, Any], hidden: Mapping[str, str]) -> None:
    """Raise UpdateError where the text does not say what it should: the policy as it was, the facts as they are."""
    try:
        held = loads(result)
    except EnvlockError:
        held = None
    facts = to_plain(held) if held is not None else {}
    seen = {section for section in _SECTIONS if not any(each.partition(".")[0] == section for each in hidden)}
    if held is None or held.lock != lock.lock or any(facts.get(each) != wanted.get(each) for each in seen):
        raise UpdateError(
            "cannot edit the lock in place: give its tables headers of their own ([driver], [package.pip] ...) "
            "instead of dotted keys at the top"
        )


def _edit(document: Any, wanted: dict[str, Any], hidden: Mapping[str, str]) -> str:
    for section in [key for key in document if key in _SECTIONS]:
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
    elif (
        isinstance(value, list)
        and value
        and isinstance(held, AoT)
        and all(isinstance(each, dict) for each in value)
    ):
        entries = _partners(list(held), value)
        for entry, item in zip(entries, value, strict=True):
            _sync_entry(entry, item)
        if [id(entry) for entry in entries] != [id(entry) for entry in held]:
            array = tomlkit.aot()
            for entry in entries:
                array.append(entry)
            table[key] = array
    elif _plain(held) != value:
        table[key] = _section(value) if isinstance(value, list) and isinstance(held, AoT) else _item(value)


def _partners(held: list[Table], wanted: list[dict[str, Any]]) -> list[Table]:
    """Return for each wanted entry the table that stood for it (same name and path, else same name), or a new one."""
    left = list(held)
    found: list[Table | None] = [None] * len(wanted)
    same_length = len(held) == len(wanted)
    for keys in (("name", "path", "version"), ("name", "path"), ("name",), ()):
        for place, item in enumerate(wanted):
            if found[place] is not None or (not keys and not same_length):
                continue
            known = [_plain(item.get(key)) for key in keys]
            partner = next((each for each in left if [_plain(each.get(key)) for key in keys] == known), None)
            if partner is not None:
                found[place] = partner
                left = [each for each in left if each is not partner]
    return [each if each is not None else tomlkit.table() for each in found]


def _sync_entry(entry: Table, item: dict[str, Any]) -> None:
    for gone in [each for each in entry if each not in item]:
        del entry[gone]
    for each, part in item.items():
        if each not in entry or _plain(entry[each]) != part:
            entry[each] = _item(part)


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
