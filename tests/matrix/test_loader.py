"""The matrix is read lazily and frozen; a user's file adds, replaces and removes rows, or is refused with its place."""

from __future__ import annotations

import datetime
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from envlock.errors import EnvlockError
from envlock.matrix import MatrixError, load
from envlock.matrix import loader as loader_module

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = os.path.dirname(loader_module.__file__)
SUBJECTS = load().subjects()


def raw(subject: str) -> dict[str, Any]:
    return tomllib.loads(Path(FOLDER, f"{subject}.toml").read_text(encoding="utf-8"))


def kinds(subject: str) -> dict[str, list[dict[str, Any]]]:
    return {name: rows for name, rows in raw(subject).items() if name not in ("keys", "required")}


def user_file(folder: Path, text: str) -> str:
    path = folder / "extra.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_row_says_where_and_when_it_was_read(subject):
    matrix = load()
    for kind in matrix.kinds(subject):
        for row in matrix.rows(subject, kind):
            assert isinstance(row["source"], str), row
            assert len(row["source"]) >= 8, row
            assert type(row["read"]) is datetime.date, row
            assert datetime.date(2026, 1, 1) <= row["read"] <= matrix.date()


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_kind_has_keys_that_tell_its_rows_apart(subject):
    tables, keys = kinds(subject), raw(subject).get("keys", {})
    assert set(tables) <= set(keys), f"{subject}: these kinds have no keys: {set(tables) - set(keys)}"
    for kind, rows in tables.items():
        seen: list[list[Any]] = []
        for row in rows:
            key = [row.get(name) for name in keys[kind]]
            assert any(value is not None for value in key), f"{subject}.{kind}: {row}"
            assert key not in seen, f"{subject}.{kind}: two rows with {key}"
            seen.append(key)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_column_has_one_type_throughout_its_kind(subject):
    for kind, rows in kinds(subject).items():
        forms: dict[str, type] = {}
        for row in rows:
            for name, value in row.items():
                assert forms.setdefault(name, type(value)) is type(value), (
                    f"{subject}.{kind}.{name}: {value!r}"
                )


@pytest.mark.parametrize("subject", SUBJECTS)
def test_required_columns_are_in_every_row(subject):
    tables = kinds(subject)
    for kind, columns in raw(subject).get("required", {}).items():
        assert all(name in row for row in tables[kind] for name in columns), f"{subject}.{kind}"


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_file_says_on_its_first_line_what_it_holds_and_fits_the_schema(subject):
    text = Path(FOLDER, f"{subject}.toml").read_text(encoding="utf-8")
    assert re.match(r"# .{10,}\n", text)
    schema_path = Path(__file__).parents[2] / "schemas" / "matrix.schema.json"
    schema = json.loads(schema_path.read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    document = json.loads(json.dumps({subject: raw(subject)}, default=str))
    assert [error.message for error in validator.iter_errors(document)] == []


def test_the_schema_refuses_an_unknown_column_and_a_wrong_architecture():
    schema_path = Path(__file__).parents[2] / "schemas" / "matrix.schema.json"
    validator = jsonschema.Draft202012Validator(json.loads(schema_path.read_text(encoding="utf-8")))
    row = {"cuda": "12.4", "archs": ["sm_90"], "source": "somewhere", "read": "2026-11-23"}

    def fits(**changes: Any) -> bool:
        return validator.is_valid({"cuda": {"keys": {}, "nvcc": [{**row, **changes}]}})

    assert fits()
    assert not fits(arch="sm_90")
    assert not fits(archs=["9.0"])


def test_a_subject_is_read_when_first_asked_for(monkeypatch):
    read: list[str] = []
    real = loader_module._read_subject
    monkeypatch.setattr(loader_module, "_read_subject", lambda name: read.append(name) or real(name))
    matrix = load()
    assert read == []
    matrix.rows("nccl", "known-bad")
    matrix.rows("nccl", "release")
    assert read == ["nccl"]


def test_rows_cannot_be_changed():
    row = load().rows("cuda", "nvcc")[0]
    assert isinstance(row, Mapping)
    assert isinstance(row["archs"], tuple)
    with pytest.raises(TypeError):
        row["archs"] = ()  # type: ignore[index]


def test_a_slip_in_a_name_is_loud():
    matrix = load()
    with pytest.raises(LookupError, match=r"no nccll; it has .*nccl"):
        matrix.rows("nccll", "release")
    with pytest.raises(LookupError, match=r"no nccl\.releases; nccl has .*release"):
        matrix.rows("nccl", "releases")


def test_search_finds_text_in_any_column_and_kinds_by_name():
    matrix = load()
    found = matrix.search("ll128")
    assert {(hit.subject, hit.kind) for hit in found} >= {("nccl", "known-bad")}
    assert all("ll128" in str(dict(hit.row)).casefold() for hit in found)
    family = matrix.search("cuda.family")
    assert [hit.row for hit in family] == list(matrix.rows("cuda", "family"))
    assert matrix.search("no such text anywhere") == ()


ADDED = """
[[nccl.known-bad]]
versions = "==9.9.9"
problem = "our cluster hangs"
severity = "error"
symptom = "hang"
source = "our ticket 4711"
"""


def test_a_user_row_is_added_last_and_needs_no_day(tmp_path):
    ours = load().rows("nccl", "known-bad")
    rows = load([user_file(tmp_path, ADDED)]).rows("nccl", "known-bad")
    assert rows[:-1] == ours
    assert rows[-1]["problem"] == "our cluster hangs"
    assert "read" not in rows[-1]


def test_a_user_row_with_the_same_keys_replaces_ours_in_its_place(tmp_path):
    path = user_file(
        tmp_path,
        """
[[cuda.family]]
major = "12"
driver_linux = "550.1"
source = "our own tests"
""",
    )
    rows = load([path]).rows("cuda", "family")
    assert [row["major"] for row in rows] == ["11", "12", "13"]
    assert rows[1]["driver_linux"] == "550.1"
    assert "driver_windows" not in rows[1]


def test_a_user_row_can_take_ours_away(tmp_path):
    path = user_file(tmp_path, '[[cuda.family]]\nmajor = "11"\nremove = true\n')
    assert [row["major"] for row in load([path]).rows("cuda", "family")] == ["12", "13"]


def test_a_later_file_wins_over_an_earlier_one(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    row = '[[cuda.family]]\nmajor = "13"\ndriver_linux = "{}"\nsource = "our own tests"\n'
    files = [user_file(tmp_path / name, row.format(v)) for name, v in (("a", "581"), ("b", "582"))]
    assert load(files).rows("cuda", "family")[-1]["driver_linux"] == "582"


def test_a_file_made_on_windows_is_read_as_well(tmp_path):
    path = tmp_path / "extra.toml"
    path.write_bytes(b"\xef\xbb\xbf" + ADDED.replace("\n", "\r\n").encode())
    assert load([str(path)]).rows("nccl", "known-bad")[-1]["versions"] == "==9.9.9"


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("[[nccl.known-bad]\n", ":1: ", "Expected"),
        ("x = \n", ":1: ", "Invalid value"),
        ("nccl = 3\n", ": ", "nccl: expected rows"),
        ('[nccl]\nknown-bad = "x"\n', ": ", "nccl.known-bad: expected rows"),
        ("[[ncll.known-bad]]\n", ": ", "no subject 'ncll'"),
        ("\n[[nccl.knownbad]]\n", ":2: nccl.knownbad[0]: ", "no such kind"),
        (ADDED + ADDED.replace("severity", "sverity"), ":9: nccl.known-bad[1]: ", "no column 'sverity'"),
        (ADDED.replace('source = "our ticket 4711"', ""), ":2: nccl.known-bad[0]: ", "'source' is missing"),
        (ADDED.replace('"hang"', "7"), ":2: nccl.known-bad[0]: ", "symptom: expected text, got an integer"),
        (
            ADDED + "min_gpus = true\n",
            ":2: nccl.known-bad[0]: ",
            "min_gpus: expected an integer, got true or",
        ),
        (
            ADDED + "compute_capabilities = [1]\n",
            ":2: nccl.known-bad[0]: ",
            "compute_capabilities: expected a list, got a list that is not of",
        ),
        (ADDED + "read = 2026-11-23T10:00:00\n", ":2: nccl.known-bad[0]: ", "read: expected a date, got"),
        (
            ADDED.replace('"==9.9.9"', '"about 9"'),
            ":2: nccl.known-bad[0]: ",
            "versions: expected a range such as",
        ),
        (ADDED.replace('"==9.9.9"', '""'), ":2: nccl.known-bad[0]: ", "versions: expected a range such as"),
        (ADDED.replace('severity = "error"', ""), ":2: nccl.known-bad[0]: ", "'severity' is missing"),
        ('[[cuda.family]]\nmajor = "9"\nremove = true\n', ":1: cuda.family[0]: ", "no row with major = '9'"),
        ("[[cuda.family]]\nremove = true\n", ":1: cuda.family[0]: ", "'major' is missing"),
        ('[[cuda.family]]\nmajor = "9"\nremove = "yes"\n', ":1: cuda.family[0]: ", "remove: expected true"),
        ("x = " + "[" * 5000 + "\n", ":1: ", ""),
    ],
)
def test_a_wrong_user_file_is_refused_with_its_place(tmp_path, text, place, said):
    path = user_file(tmp_path, text)
    with pytest.raises(MatrixError) as caught:
        load([path])
    message = str(caught.value)
    assert message.startswith(path + place), message
    assert said in message
    assert isinstance(caught.value, EnvlockError)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(MatrixError, match=r"cannot read .*nowhere\.toml: No such file"):
        load([str(tmp_path / "nowhere.toml")])
    path = tmp_path / "latin.toml"
    path.write_bytes(b"# one\n# M\xfcller\n")
    with pytest.raises(MatrixError, match=r"latin\.toml:2: not UTF-8"):
        load([str(path)])
    path.write_bytes(b"#" * (loader_module.SIZE_LIMIT + 1))
    with pytest.raises(MatrixError, match="larger than 4 MiB"):
        load([str(path)])
