"""Whatever a manifest holds, the rules end without a crash: values are outside data."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from envlock.manifest.model import Manifest, to_plain
from envlock.manifest.read import load
from envlock.rules.engine import run
from tests.cli.support import EXAMPLES
from tests.rules.support import matrix

ODD = (
    "",
    " ",
    "N/A",
    "1",
    "12.",
    "sm_",
    "9.0a",
    "٣.١",
    "１２.４",
    "²",
    "1!2",
    "9" * 300,
    "cuda>=12.x brand=",
)


def replaced(value: Any, text: str) -> Any:
    """Return a plain value with every text in it replaced; keys stay."""
    if isinstance(value, dict):
        return {key: replaced(each, text) for key, each in value.items()}
    if isinstance(value, list):
        return [replaced(each, text) for each in value]
    return text if isinstance(value, str) else value


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize(
    "section", ["driver", "gpu", "os", "python", "framework", "package", "library", "requires"]
)
def test_odd_text_in_a_section_costs_findings_at_most(section: str, text: str) -> None:
    plain = to_plain(load(str(EXAMPLES / "train-h100.toml")))
    plain["toolkit"] = [{"version": "12.8.1", "path": "/usr/local/cuda", "active": True}]
    plain[section] = replaced(plain[section], text)
    run(msgspec.convert(plain, Manifest), matrix())


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize(
    ("section", "key"), [("driver", "version"), ("gpu", "compute_capability"), ("torch", "cuda")]
)
def test_one_odd_fact_costs_findings_at_most(section: str, key: str, text: str) -> None:
    plain = to_plain(load(str(EXAMPLES / "old-driver.toml")))
    plain["toolkit"] = [{"version": "12.8.1", "path": "/usr/local/cuda", "active": True}]
    table = {"gpu": plain["gpu"][0], "torch": plain["framework"]["torch"]}.get(section) or plain[section]
    table[key] = text
    run(msgspec.convert(plain, Manifest), matrix())
