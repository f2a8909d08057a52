"""The schemas in the tree are the ones that the types make, and real files fit them."""

import json
from pathlib import Path

import jsonschema
import pytest

from envlock.manifest.model import to_plain
from envlock.manifest.read import load
from tools.make_schemas import render, schemas

TOP = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["fleet.schema.json", "manifest.schema.json", "report.schema.json"])
def test_the_schema_is_made_from_the_types(name):
    assert (TOP / "schemas" / name).read_text() == render(schemas()[name]), "run python tools/make_schemas.py"


@pytest.mark.parametrize("path", sorted((TOP / "examples").glob("*.toml")), ids=lambda path: path.name)
def test_examples_fit_the_schema(path):
    schema = json.loads((TOP / "schemas" / "manifest.schema.json").read_text())
    jsonschema.validate(json.loads(json.dumps(to_plain(load(str(path))), default=str)), schema)


def test_the_schema_refuses_what_the_reader_refuses():
    schema = json.loads((TOP / "schemas" / "manifest.schema.json").read_text())
    for wrong in ({"schema": "envlock/2"}, {}, {"schema": "envlock/1", "driver": {"version": 570}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
