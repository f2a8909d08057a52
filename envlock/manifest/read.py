"""TOML to manifest: bounded, typed, and with errors that name the file, the line and the address."""

from __future__ import annotations

import re
import sys
from typing import Any, NoReturn

import msgspec

# Not tomllib: tomli's wheels are compiled, and they parse a manifest in a third of the time.
import tomli as tomllib

from envlock.errors import EnvlockError
from envlock.manifest.model import SCHEMA, Manifest

SIZE_LIMIT = 32 * 1024 * 1024
"""Bytes of a manifest at most; 5,000 packages with their requirements take under 2 MiB."""

_HEADER = re.compile(r"\s*\[\[?([^\]]*)\]")
_ASSIGNMENT = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"))*)\s*="""
)
KEY_LIMIT = 100
"""Parts of a dotted key at most: reading one costs the parser the square of them (and tomlkit refuses more)."""

_PART = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_DEEP_KEY = re.compile(rf"(?:^[ \t]*\[{{0,2}}|[{{,])[ \t]*(?:{_PART}[ \t]*\.[ \t]*){{{KEY_LIMIT}}}")
_TYPES = {
    "object": "a table",
    "array": "a list",
    "str": "text",
    "int": "an integer",
    "bool": "true or false",
    "float": "a number",
    "date": "a date",
    "datetime": "a date and time",
    "time": "a time of day",
    "null": "nothing",
}


class ManifestError(EnvlockError):
    """A manifest that cannot be read; the text names file, line or key, and what was expected."""


def load(path: str) -> Manifest:
    """Read a manifest from a file; ``-`` is standard input. Raises ManifestError."""
    name = "standard input" if path == "-" else path
    return loads(read_source(path), name)


def read_source(path: str) -> str:
    """Return a file's text (``-`` is standard input), bounded; raises ManifestError."""
    name = "standard input" if path == "-" else path
    try:
        if path == "-":
            content = sys.stdin.buffer.read(SIZE_LIMIT + 1)
        else:
            with open(path, "rb") as file:
                content = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise ManifestError(f"cannot read {name}: {error.strerror or error}") from None
    if len(content) > SIZE_LIMIT:
        raise ManifestError(f"{name}: larger than {SIZE_LIMIT // 2**20} MiB, which no manifest is")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ManifestError(f"{name}:{line}: not UTF-8 text (byte {error.start})") from None


def loads(text: str, name: str = "manifest") -> Manifest:
    """Read a manifest from text; ``name`` is what errors call it. Raises ManifestError."""
    plain = parse_toml(text, name)
    schema = plain.get("schema")
    if schema is None:
        raise ManifestError(
            f'{name}: not an envlock manifest: no key "schema" (expected schema = "{SCHEMA}")'
        )
    if schema != SCHEMA:
        line = line_of(text, "schema")
        raise ManifestError(
            f"{name}:{line}: schema {_clipped(repr(schema))} is not known to this envlock, which reads {SCHEMA!r}"
        )
    try:
        return msgspec.convert(plain, Manifest)
    except msgspec.ValidationError as error:
        _explain(plain, text, name, error)


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """Parse TOML 1.0; raises ManifestError with the line."""
    _refuse_deep_keys(text, name)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at (?:line (\d+), column \d+|end of document)\)\Z", str(error))
        if found is None:
            raise ManifestError(f"{name}: not TOML: {printable(str(error))}") from None
        line = found.group(1) or text.count("\n") + 1
        what = printable(str(error)[: found.start()].strip())
        raise ManifestError(f"{name}:{line}: not TOML: {what}") from None
    except RecursionError:
        raise ManifestError(f"{name}: not a manifest: tables or lists nested too deeply") from None
    except ValueError:
        # The interpreter's limit on the digits of an integer, or a date that no calendar has.
        raise ManifestError(f"{name}: not a manifest: a number or date out of any range") from None


def _refuse_deep_keys(text: str, name: str) -> None:
    if text.count(".") < KEY_LIMIT:
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") >= KEY_LIMIT and _DEEP_KEY.search(line):
            raise ManifestError(f"{name}:{number}: not a manifest: a key of more than {KEY_LIMIT} parts")


def printable(text: str) -> str:
    """Return text with control characters, line and direction marks replaced: one line, fit for a terminal."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]", "\ufffd", text)


def _explain(plain: dict[str, Any], text: str, name: str, error: msgspec.ValidationError) -> NoReturn:
    message, _, path = str(error).rpartition(" - at ")
    message = _clipped(message)
    address = ".".join(_resolve(plain, path))
    line = line_of(text, address)
    place = f"{name}:{line}" if line else name
    raise ManifestError(
        printable(f"{place}: {_clipped(address) or 'manifest'}: {_plain_words(message)}")
    ) from None


def _clipped(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _plain_words(message: str) -> str:
    """Say msgspec's message in the words of the format."""

    def words(match: re.Match[str]) -> str:
        return " or ".join(
            _TYPES.get(kind.strip(), kind.strip())
            for kind in match.group(1).split("|")
            if kind.strip() != "null"
        )

    missing = re.fullmatch(r"Object missing required field `(\w+)`", message)
    if missing:
        return f"{missing.group(1)} is missing"
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", message)
    if unknown:
        return f"no key {unknown.group(1)} is known here"
    message = re.sub(r"`([a-z| ]+)`", words, message)
    return message[:1].lower() + message[1:]


def _resolve(plain: dict[str, Any], path: str) -> list[str]:
    """Turn msgspec's path into keys, places in lists left out; where it says [...] for a table's value, find which it was."""
    keys: list[str] = []
    for field in re.findall(r"\.(\w+)|\[\.\.\.\]", path):
        if field:
            keys.append(field)
        else:
            table = _dig(plain, keys)
            culprit = (
                next((key for key in table if _fails(keys, key, table[key])), None)
                if isinstance(table, dict)
                else None
            )
            if culprit is None:
                break
            keys.append(culprit)
    return keys


def _dig(value: Any, keys: list[str]) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _fails(keys: list[str], key: str, value: Any) -> bool:
    probe: Any = {key: value}
    for outer in reversed(keys):
        probe = {outer: probe}
    try:
        msgspec.convert(probe, Manifest)
    except msgspec.ValidationError:
        return True
    return False


def line_of(text: str, address: str) -> int | None:
    """Return the line (from 1) of an address in TOML text: its own, or that of the table above it."""
    lines = index_lines(text)
    while address:
        if address in lines:
            return lines[address]
        address = address.rpartition(".")[0]
    return None


def index_lines(text: str) -> dict[str, int]:
    """Map each address to its line, by a reading that knows headers and keys but not values."""
    lines: dict[str, int] = {}
    header = ""
    for number, line in enumerate(text.splitlines(), 1):
        found = _HEADER.match(line)
        if found:
            header = _dotted(found.group(1))
            lines.setdefault(header, number)
            continue
        found = _ASSIGNMENT.match(line)
        if found:
            key = _dotted(found.group(1))
            lines.setdefault(f"{header}.{key}" if header else key, number)
            if header == "library" and key == "name":
                value = line.partition("=")[2].strip().strip("\"'")
                lines.setdefault(f"library.{value}", number)
    return lines


def _dotted(key: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in key.split("."))
