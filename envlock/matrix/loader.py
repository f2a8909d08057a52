"""Reads the matrix: one TOML file a subject, a source for every row, and what users add to or change in it.

The conventions of a subject's file ``<subject>.toml`` (all subjects alike):

- ``[keys]`` first: for every kind of row in the file, the columns that tell two rows apart (a kind may
  have no row yet). Then arrays of tables, one kind a table name.
- ``[required]`` where some columns are in all rows by chance only: the columns of a kind that a row cannot do
  without, besides its keys and ``source``. Without it these are the columns that all rows have.
- Every row has ``source`` (text: where it can be looked up) and ``read`` (the day when it was).
- Versions are text. A column that does not apply is left out.

A user's file holds the same rows under their subject, ``[[nccl.known-bad]]``: one with the keys of a row of
ours replaces it, with ``remove = true`` takes it away, else it is added. Required columns are there in
every row that ``Matrix.rows`` returns, so a rule may subscript them; ``get`` the others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn

# Not tomllib: tomli's wheels are compiled, and reading the matrix was most of what a check took.
import tomli as tomllib

from envlock.errors import EnvlockError

Row = Mapping[str, Any]

SIZE_LIMIT = 4 * 1024 * 1024
"""Bytes of a user's file at most; all of our own together take less than a tenth of it."""

_FOLDER = os.path.dirname(os.path.abspath(__file__))
_KEYS = "keys"
_REQUIRED = "required"
_AT = re.compile(r"at line (\d+), column \d+")
_TYPES = {str: "text", bool: "true or false", int: "an integer", float: "a number", date: "a date",
          list: "a list", dict: "a table"}  # fmt: skip


class MatrixError(EnvlockError):
    """A user's matrix file that cannot be used; the text names the file, the line and the row."""


class Hit(NamedTuple):
    """A row that a search found, and where it belongs."""

    subject: str
    kind: str
    row: Row


class Matrix:
    """A read-only view of all rows, ours and the user's; a subject's file is read when first asked for."""

    __slots__ = ("_changes", "_read")

    def __init__(self, changes: Mapping[str, Sequence[_Change]]) -> None:
        self._changes = changes
        self._read: dict[str, Mapping[str, tuple[Row, ...]]] = {}

    def subjects(self) -> tuple[str, ...]:
        """Return the subjects' names, sorted: cuda, cudnn, driver ..."""
        return _subjects()

    def kinds(self, subject: str) -> tuple[str, ...]:
        """Return the kinds of row that a subject has, sorted; LookupError for a subject that there is not."""
        return tuple(sorted(self._subject(subject)))

    def rows(self, subject: str, kind: str) -> tuple[Row, ...]:
        """Return the rows of one kind in the order of their file, the user's additions last.

        Raises LookupError for a subject or kind that there is not: a caller's slip, no missing fact.
        """
        kinds = self._subject(subject)
        if kind not in kinds:
            raise LookupError(f"the matrix has no {subject}.{kind}; {subject} has {', '.join(sorted(kinds))}")
        return kinds[kind]

    def search(self, text: str) -> tuple[Hit, ...]:
        """Return the rows that hold a text in any column or in their kind's name; capitals do not count."""
        wanted = text.casefold()
        return tuple(
            Hit(subject, kind, row)
            for subject, kind, row in self._all()
            if wanted in f"{subject}.{kind}".casefold() or any(wanted in item for item in _texts(row))
        )

    def date(self) -> date:
        """Return the newest day on which a source of any row was read: how fresh the matrix is."""
        days: list[date] = [row["read"] for _, _, row in self._all() if "read" in row]
        return max(days)

    def _all(self) -> Iterator[tuple[str, str, Row]]:
        for subject in self.subjects():
            for kind in self.kinds(subject):
                for row in self.rows(subject, kind):
                    yield subject, kind, row

    def _subject(self, subject: str) -> Mapping[str, tuple[Row, ...]]:
        kinds = self._read.get(subject)
        if kinds is None:
            form, tables = _read_subject(subject)
            for change in self._changes.get(subject, ()):
                _apply(change, form, tables)
            kinds = {kind: tuple(_frozen(row) for row in rows) for kind, rows in tables.items()}
            self._read[subject] = kinds
        return kinds


class _Form(NamedTuple):
    """What a subject's file says of its own rows: by kind, the columns that tell rows apart and those they need."""

    keys: Mapping[str, Sequence[str]]
    required: Mapping[str, Sequence[str]]


class _Change(NamedTuple):
    """A row of a user's file, and the place to name when it is wrong."""

    kind: str
    row: dict[str, Any]
    place: str


def load(extra: Sequence[str] = ()) -> Matrix:
    """Return the matrix with the rows of the user's files laid over ours, later files over earlier ones.

    Raises MatrixError for a file that cannot be read or a row that does not fit.
    """
    changes: dict[str, list[_Change]] = {}
    for path in extra:
        for subject, change in _read_user(path):
            changes.setdefault(subject, []).append(change)
    matrix = Matrix(changes)
    for subject in changes:
        matrix.kinds(subject)
    return matrix


PROJECT_FILE = "envlock-matrix.toml"
"""A project's own rows: this file in the working folder counts as one more file of the user's, before the others."""


def project_files(folder: str) -> list[str]:
    """Return the matrix file of a project's folder, as a list that is empty where there is none."""
    path = os.path.join(folder, PROJECT_FILE)
    return [path] if os.path.isfile(path) else []


def _subjects() -> tuple[str, ...]:
    return tuple(sorted(name[:-5] for name in os.listdir(_FOLDER) if name.endswith(".toml")))


def _read_subject(subject: str) -> tuple[_Form, dict[str, list[dict[str, Any]]]]:
    """Return a subject's form and its rows by kind."""
    try:
        with open(os.path.join(_FOLDER, f"{subject}.toml"), "rb") as file:
            tables = tomllib.load(file)
    except FileNotFoundError:
        raise LookupError(f"the matrix has no {subject}; it has {', '.join(_subjects())}") from None
    form = _Form(tables.pop(_KEYS, {}), tables.pop(_REQUIRED, {}))
    for kind in form.keys:
        tables.setdefault(kind, [])
    return form, tables


def _read_user(path: str) -> Iterator[tuple[str, _Change]]:
    text = _text(path)
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        at = _AT.search(str(error))
        message = _AT.sub("", str(error)).removesuffix(" ()") if at else str(error) or "nested too deeply"
        raise MatrixError(f"{path}:{at[1] if at else 1}: {message}") from None
    known = _subjects()
    for subject, kinds in document.items():
        if subject not in known:
            _refuse(path, f"the matrix has no subject {subject!r}; it has {', '.join(known)}")
        if not isinstance(kinds, dict):
            _refuse(path, f"{subject}: expected rows such as [[{subject}.kind]], got {_type(kinds)}")
        for kind, rows in kinds.items():
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                _refuse(path, f"{subject}.{kind}: expected rows, written as [[{subject}.{kind}]]")
            lines = _lines(text, subject, kind)
            for number, row in enumerate(rows):
                line = f"{path}:{lines[number]}" if number < len(lines) else path
                yield subject, _Change(kind, row, f"{line}: {subject}.{kind}[{number}]")


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise MatrixError(f"cannot read {path}: {error.strerror or error}") from None
    if len(content) > SIZE_LIMIT:
        raise MatrixError(f"{path}: larger than {SIZE_LIMIT // 2**20} MiB, which no matrix file is")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise MatrixError(f"{path}:{line}: not UTF-8, which TOML has to be") from None


def _lines(text: str, subject: str, kind: str) -> list[int]:
    """Return the lines on which the rows of one kind begin (none for rows written as an inline list)."""
    name = r"\s*\.\s*".join(rf"""["']?{re.escape(part)}["']?""" for part in (subject, kind))
    header = re.compile(rf"\s*\[\[\s*{name}\s*\]\]")
    return [number for number, line in enumerate(text.split("\n"), 1) if header.match(line)]


def _apply(change: _Change, form: _Form, tables: dict[str, list[dict[str, Any]]]) -> None:
    """Replace, remove or add one row of a user; raises MatrixError where it is not of its kind's form."""
    kind, row, place = change
    if kind not in tables:
        _refuse(place, f"there is no such kind of row; there are {', '.join(sorted(tables))}")
    rows = tables[kind]
    columns = form.keys.get(kind) or _columns_of_all(rows)
    removed = row.get("remove", False)
    needed = [name for name in columns if all(name in ours for ours in rows)]
    if removed is not True:
        needed += [*form.required.get(kind, _columns_of_all(rows)), "source"]
    _check(change, columns, rows, needed)
    same = [at for at, ours in enumerate(rows) if all(ours.get(name) == row.get(name) for name in columns)]
    if removed:
        if not same:
            said = ", ".join(f"{name} = {row.get(name)!r}" for name in columns)
            _refuse(place, f"there is no row with {said} to remove")
        for at in reversed(same):
            del rows[at]
        return
    fresh = {name: value for name, value in row.items() if name != "remove"}
    if same:
        rows[same[0]] = fresh
    else:
        rows.append(fresh)


def _check(
    change: _Change, columns: Sequence[str], rows: Sequence[dict[str, Any]], needed: Sequence[str]
) -> None:
    """Hold a user's row to the columns and types of ours."""
    kind, row, place = change
    if not isinstance(row.get("remove", False), bool):
        _refuse(place, f"remove: expected true or false, got {_type(row['remove'])}")
    forms: dict[str, type] = {"source": str, "read": date, "remove": bool, **dict.fromkeys(columns, str)}
    for ours in rows:
        forms.update((name, type(value)) for name, value in ours.items())
    for name, value in row.items():
        if rows and name not in forms:
            _refuse(
                place,
                f"a {kind} row has no column {name!r}; it has {', '.join(sorted(set(forms) - {'remove'}))}",
            )
        if name in forms and not _fits(value, forms[name]):
            _refuse(place, f"{name}: expected {_TYPES[forms[name]]}, got {_type(value)}")
        if isinstance(value, str) and _is_range(name, rows) and not _is_specifier(value):
            _refuse(place, f"{name}: expected a range such as >=2.1,<2.4, got {value!r}")
    for name in needed:
        if name not in row and name != "read":
            _refuse(place, f"column {name!r} is missing")


def _is_range(column: str, rows: Sequence[dict[str, Any]]) -> bool:
    """Tell whether a column holds PEP 440 specifiers: whether it does in every row of ours."""
    held = [row[column] for row in rows if column in row]
    return bool(held) and all(isinstance(each, str) and each[:1] in "<>=!~" and each for each in held)


def _is_specifier(text: str) -> bool:
    from envlock.manifest.versions import specifier

    return bool(text) and specifier(text) is not None


def _columns_of_all(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the columns that every row has, in the order of the first."""
    return [name for name in rows[0] if all(name in row for row in rows)] if rows else []


def _fits(value: Any, form: type) -> bool:
    if form is date:
        return isinstance(value, date) and not isinstance(value, datetime)
    if form is list:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return type(value) is form


def _type(value: Any) -> str:
    if isinstance(value, list) and not all(isinstance(item, str) for item in value):
        return "a list that is not of text alone"
    return _TYPES.get(type(value), f"a {type(value).__name__}")


def _refuse(place: str, what: str) -> NoReturn:
    raise MatrixError(f"{place}: {what}")


def _frozen(row: dict[str, Any]) -> Row:
    """Make a row read-only; the caller gives it up."""
    for name, value in row.items():
        if isinstance(value, (list, dict)):  # most are text
            row[name] = _frozen_value(value)
    return MappingProxyType(row)


def _frozen_value(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_frozen_value(item) for item in value)
    return _frozen(value) if isinstance(value, dict) else value


def _texts(row: Row) -> Iterator[str]:
    for value in row.values():
        if isinstance(value, Mapping):
            yield from _texts(value)
        elif isinstance(value, tuple):
            yield from (str(item).casefold() for item in value)
        else:
            yield str(value).casefold()
