"""Markers evaluated without a parser: always what packaging says, or left to it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.markers import Marker

from envlock.manifest.markers import evaluate_plain

HERE = {
    "implementation_name": "cpython", "os_name": "posix", "platform_python_implementation": "CPython",
    "platform_system": "Linux", "sys_platform": "linux", "python_version": "3.11", "python_full_version": "3.11.7",
    "platform_machine": "x86_64", "extra": "",
}  # fmt: skip

versions = st.builds(
    "{} {} {!r}".format,
    st.sampled_from(["python_version", "python_full_version"]),
    st.sampled_from(["==", "!=", "<", "<=", ">", ">="]),
    st.sampled_from(["3", "3.0", "3.8", "3.11", "3.11.0", "3.11.7", "3.11.8", "3.12", "3.110", "4"]),
)
words = st.builds(
    '{}{}"{}"'.format,
    st.sampled_from(
        ["sys_platform", "os_name", "platform_system", "platform_machine", "implementation_name"]
    ),
    st.sampled_from(["==", " != "]),
    st.sampled_from(["linux", "Linux", "win32", "nt", "x86_64", "cpython"]),
)
extras = st.sampled_from(["extra == 'test'", "extra != 'dev-all'", 'extra=="a.b"'])
markers = st.recursive(
    versions | words | extras,
    lambda below: (
        st.builds("{} and {}".format, below, below)
        | st.builds("{} or {}".format, below, below)
        | st.builds("({})".format, below)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("operator", ["==", "!=", "<", "<=", ">", ">="])
@pytest.mark.parametrize(
    ("here", "value"),
    [
        ("3.9", "3.10"),
        ("3.9", "3.9"),
        ("3", "3.0.0.0"),
        ("3.11.7.0", "3.11"),
        ("3.11.7.1", "3.11.7"),
        ("3.12", "3.9"),
    ],
)
def test_versions_are_compared_number_by_number(here, operator, value):
    marker, environment = f"python_full_version {operator} '{value}'", {**HERE, "python_full_version": here}
    assert evaluate_plain(marker, environment) is Marker(marker).evaluate(environment)


@given(markers)
def test_agrees_with_packaging(marker):
    assert evaluate_plain(marker, HERE) is Marker(marker).evaluate(HERE)


@pytest.mark.parametrize(
    "marker",
    [
        'python_version in "2.7 3.11"', "python_version ~= '3.9'", "python_version == '3.*'", "'linux' in sys_platform",
        "platform_release >= '5'", "sys_platform >= 'linux'", "python_version >= '3.9rc1'", "sys_platform == '3'",
        "(python_version >= '3.9'", "python_version >= '3.9')", "python_version >= '3.9' and", "and", "()", "",
        "python_version >= '3.9' sys_platform == 'linux'", "(" * 50 + "os_name == 'nt'" + ")" * 50, "os_name == 'a' xor",
    ],
)  # fmt: skip
def test_leaves_what_is_not_plain_to_the_parser(marker):
    assert evaluate_plain(marker, HERE) is None


def test_a_variable_that_is_not_known_and_a_prerelease_interpreter_are_left_to_the_parser():
    assert evaluate_plain("platform_machine == 'x86_64'", {"os_name": "posix"}) is None
    assert evaluate_plain("python_full_version < '3.14'", {"python_full_version": "3.14.0rc1"}) is None
