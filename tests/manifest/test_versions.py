"""Versions as drivers, CUDA libraries, distributions and packages spell them."""

import pytest

from envlock.manifest.versions import (
    dotted,
    major,
    matches,
    release,
    series,
    size_of_change,
    specifier,
    version,
)


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("570.86.15", "570.86.15"),
        ("2.4.0+cu124", "2.4.0"),
        ("v1.2", "1.2"),
        ("12.4.1-1", "12.4.1.post1"),
        ("9.1.0.70-1ubuntu2", "9.1.0.70"),  # Debian's revision is none of PEP 440's
        ("1:2.27.3-1+cuda12.9", "2.27.3"),  # with an epoch
        ("2:v3.1~rc1", "3.1"),
    ],
)
def test_what_is_read_as_a_version(text, public):
    assert version(text).public == public


@pytest.mark.parametrize(
    "text", [None, "", "29Aug2024_update2", "1.1.1w", "12.34abc-x", "7-ubuntu", "1." + "0" * 200]
)
def test_what_is_no_version(text):
    assert version(text) is None


def test_two_hundred_characters_are_read_and_one_more_is_not():
    assert version("1." + "1" * 198) is not None
    assert version("1." + "1" * 199) is None


def test_the_numbers_that_a_version_begins_with():
    assert release("570.86.15-server") == (570, 86, 15)
    assert release("v12.4") == (12, 4)
    assert release("GLIBC_2.28") == release("") == release(None) == ()
    assert release("9" * 30) == (10**18 - 1,)  # no text makes a number without bound
    assert (major("12.4"), major("none"), major(None)) == (12, None, None)


def test_a_series_is_filled_up_with_zeros_and_cut():
    assert series("12") == (12, 0)
    assert series("12.4.131") == (12, 4)
    assert series("12", 3) == (12, 0, 0)
    assert series("unknown") == ()
    assert dotted((12, 4)) == "12.4"


@pytest.mark.parametrize(
    ("text", "wanted", "answer"),
    [
        ("2.4.0", ">=2.4,<2.5", True),
        ("2.5.0", ">=2.4,<2.5", False),
        ("2.4.0+cu124", "==2.4.0", True),  # a local label does not make it another release
        ("2.4.0+cu124", "==2.4.0+cu124", True),
        ("2.4.0+cu121", "==2.4.0+cu124", False),
        ("2.4.0+cu124", "<=2.4.0", True),
        ("2.5.0rc1", ">=2.4", True),  # who installed a pre-release wants it
        ("unknown", ">=2.4", None),
        (None, ">=2.4", None),
        ("2.4.0", "about 2.4", None),
    ],
)
def test_whether_a_version_lies_in_a_specifier(text, wanted, answer):
    assert matches(text, wanted) is answer


def test_what_is_no_specifier():
    assert specifier("about 2.4") is None
    assert str(specifier(">=1.2,<2")) == "<2,>=1.2"


@pytest.mark.parametrize(
    ("before", "after", "size"),
    [
        ("1.26.4", "1.26.4", "build"),
        ("1.26.4", "2.0.0", "major"),
        ("1.26.4", "1!1.26.4", "major"),
        ("1.26.4", "1.27.4", "minor"),
        ("1.26.4", "1.26.5", "patch"),
        ("1.26.4rc1", "1.26.4", "patch"),
        ("2.4.0+cu121", "2.4.0+cu124", "build"),
        ("1.26.4", "1.26.4.post1", "build"),
        ("1.26.4", "nightly", "unknown"),
        (None, "1.26.4", "unknown"),
        ("nightly", "nightly", "build"),
    ],
)
def test_how_far_a_change_goes(before, after, size):
    assert size_of_change(before, after) == size
