"""Requirements in the spelling of a manifest's [requires], and what is none."""

import pytest

from envlock.manifest.requirements import Requirement, parse_requirement


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("numpy", Requirement("numpy", "")),
        ("numpy<3,>=1.21", Requirement("numpy", "<3,>=1.21")),
        (" Foo__Bar.baz >= 1.0, < 2", Requirement("foo-bar-baz", ">=1.0,<2")),
        ("typing-extensions (>=4.0)", Requirement("typing-extensions", ">=4.0")),
        ("uvicorn[http,standard]==0.3.*", Requirement("uvicorn", "==0.3.*", "http,standard")),
        ("pip @ https://host/pip.zip", Requirement("pip", "", "", "https://host/pip.zip")),
        ("a[x] @ file:///a.whl", Requirement("a", "", "x", "file:///a.whl")),
        ("!!", None),
        ("", None),
    ],
)
def test_a_line_of_requires(line, read):
    assert parse_requirement(line) == read


def test_a_line_without_end_is_cut():
    assert parse_requirement("a" * 5000) == Requirement("a" * 1000, "")
