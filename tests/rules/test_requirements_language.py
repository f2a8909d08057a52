"""The language of NVIDIA_REQUIRE_*, held to the vectors of the container toolkit's own unit tests.

NVIDIA/nvidia-container-toolkit @d34b3046: internal/requirements/constraints/{factory,logical}_test.go and
internal/config/image/cuda_image_test.go.
"""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envlock.rules.requirements_language import (
    Factor,
    Facts,
    RequirementError,
    factor_holds,
    holds,
    major_minor,
    parse,
    parse_factor,
    requirements,
)


@pytest.mark.parametrize("operator", [">=", ">", "<=", "<", "=", "!="])
def test_a_condition_is_property_operator_value(operator: str) -> None:
    assert parse_factor(f"cuda{operator}11.6") == Factor("cuda", operator, "11.6")


@pytest.mark.parametrize("text", ["", "foo=45"])
def test_empty_and_unknown_conditions_are_passed_over(text: str) -> None:
    assert parse_factor(text) is None


@pytest.mark.parametrize("text", ["notvalid", "cuda=foo"])
def test_what_lacks_an_operator_or_a_version_is_refused(text: str) -> None:
    with pytest.raises(RequirementError, match=text.partition("=")[0]):
        parse(text)


@pytest.mark.parametrize(
    ("requirement", "terms"),
    [
        ("", []),
        ("cuda>=11.6 foo=bar", [["cuda>=11.6"]]),
        ("cuda>=11.6 arch=5.3", [["cuda>=11.6"], ["arch=5.3"]]),
        ("cuda>=11.6,arch=5.3", [["cuda>=11.6", "arch=5.3"]]),
        ("cuda<13.6 cuda>=11.6,arch=5.3", [["cuda<13.6"], ["cuda>=11.6", "arch=5.3"]]),
    ],
)
def test_spaces_are_or_commas_are_and(requirement: str, terms: list[list[str]]) -> None:
    assert [[str(factor) for factor in term] for term in parse(requirement)] == terms


@pytest.mark.parametrize(
    ("requirement", "met"),
    [
        ("cuda>=1", True),
        ("cuda<1", False),
        ("cuda>=1,cuda>=2", True),
        ("cuda>=1,cuda<1", False),
        ("cuda<1,cuda>=1", False),
        ("cuda>=1 cuda<1", True),
        ("cuda<1 cuda>=1", True),
        ("cuda<1 cuda<2", False),
        ("", True),
    ],
)
def test_all_factors_and_any_term_have_to_hold(requirement: str, met: bool) -> None:
    assert holds(requirement, Facts(cuda="12.4")) is met


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({"NVIDIA_REQUIRE_JETPACK": "csv-mounts=all"}, []),
        ({"NVIDIA_REQUIRE_JETPACK_HOST_MOUNTS": "base-only"}, []),
        ({"NVIDIA_REQUIRE_CUDA": "cuda>=11.6"}, ["cuda>=11.6"]),
        ({"NVIDIA_REQUIRE_CUDA": "cuda>=11.6", "NVIDIA_REQUIRE_BRAND": "brand=tesla"}, ["cuda>=11.6", "brand=tesla"]),
        ({"CUDA_VERSION": "11.6"}, ["cuda>=11.6"]),
        ({"CUDA_VERSION": "11.6", "NVIDIA_REQUIRE_BRAND": "brand=tesla"}, ["cuda>=11.6", "brand=tesla"]),
        ({"NVIDIA_REQUIRE_CUDA": "cuda>=11.6", "NVIDIA_REQUIRE_BRAND": "brand=tesla", "NVIDIA_DISABLE_REQUIRE": "true"}, []),
        ({"CUDA_VERSION": "11.6", "NVIDIA_REQUIRE_BRAND": "brand=tesla", "NVIDIA_DISABLE_REQUIRE": "true"}, []),
        # strconv.ParseBool does not know "yes"; an image with both variables is not of the old kind.
        ({"NVIDIA_REQUIRE_CUDA": "cuda>=11.6", "NVIDIA_DISABLE_REQUIRE": "yes"}, ["cuda>=11.6"]),
        ({"NVIDIA_REQUIRE_CUDA": "cuda>=12.4", "CUDA_VERSION": "12.4.1"}, ["cuda>=12.4"]),
    ],
)  # fmt: skip
def test_the_requirements_of_an_image(environ: dict[str, str], wanted: list[str]) -> None:
    assert sorted(requirements(environ)) == sorted(wanted)


@pytest.mark.parametrize(
    ("version", "wanted"),
    [("0", "0.0"), ("8", "8.0"), ("7.5", "7.5"), ("9.0.116", "9.0"), ("v11.6", "11.6"),
     ("4294967295.4294967295.4294967295", "4294967295.4294967295")],
)  # fmt: skip
def test_cuda_version_of_old_images(version: str, wanted: str) -> None:
    assert major_minor(version) == wanted


@pytest.mark.parametrize(
    "version",
    ["foo", "foo.5.10", "9.0.116.50", "9.0.116foo", "7.foo", "9.0.bar", "9.4294967296", "9.0.116.", "9..0", "9.",
     ".5.10", "-9", "+9", "-9.1.116", "-9.-1.-116"],
)  # fmt: skip
def test_cuda_version_that_is_none(version: str) -> None:
    with pytest.raises(RequirementError):
        major_minor(version)


# Of the image nvidia/cuda:12.4.1, shortened to two branches.
REAL = (
    "cuda>=12.4 brand=tesla,driver>=470,driver<471 brand=geforce,driver>=470,driver<471 "
    "brand=tesla,driver>=535,driver<536 brand=geforce,driver>=535,driver<536"
)


@pytest.mark.parametrize(
    ("facts", "met"),
    [
        (Facts("12.4", "550.54.14", "8.0", "tesla"), True),
        (Facts("12.2", "535.104.05", "8.0", "tesla"), True),
        (Facts("12.0", "525.85.12", "8.0", "tesla"), False),
        (Facts("12.2", "535.104.05", "8.6", "quadro"), False),
        (Facts("11.4", "471.11", "8.6", "geforce"), False),
        (Facts("13.0", "580.65.06", "12.0", "geforce"), True),
        (Facts(None, "525.85.12", None, None), True),  # what is not known holds
    ],
)
def test_a_real_image_on_several_machines(facts: Facts, met: bool) -> None:
    assert holds(REAL, facts) is met


def test_versions_are_compared_by_number_and_brands_by_word() -> None:
    assert factor_holds(Factor("cuda", ">=", "9.2"), Facts(cuda="10.0"))
    assert factor_holds(Factor("cuda", "=", "12.4"), Facts(cuda="12.4.0"))
    assert not factor_holds(Factor("driver", "<", "471"), Facts(driver="471"))
    assert factor_holds(Factor("brand", "=", "Tesla"), Facts(brand="tesla"))
    assert factor_holds(Factor("brand", "!=", "tesla"), Facts(brand="geforce"))


@given(st.text(max_size=200))
def test_hostile_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(RequirementError):
        holds(text, Facts("12.4", "550.54.14", "8.0", "tesla"))


def test_a_requirement_without_end_is_refused() -> None:
    assert parse(",".join(["cuda>=1"] * 4096))
    with pytest.raises(RequirementError) as refused:
        parse(",".join(["cuda>=1"] * 4097))
    assert str(refused.value) == f"a requirement of more than 4096 conditions: {'cuda>=1,' * 10!r} ..."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cuda", "'cuda' is not a condition: it lacks an operator (=, !=, <, <=, >, >=)"),
        ("x" * 90, f"'{'x' * 80}' is not a condition: it lacks an operator (=, !=, <, <=, >, >=)"),
        ("driver<new", "'driver<new' compares with 'new', which is not a version"),
        ("arch>" + "n" * 90, f"'arch>{'n' * 75}' compares with '{'n' * 40}', which is not a version"),
    ],
)
def test_what_cannot_be_read_is_said_and_cut(text: str, said: str) -> None:
    with pytest.raises(RequirementError) as refused:
        parse(text)
    assert str(refused.value) == said


def test_a_cuda_version_that_is_none_is_said_and_cut() -> None:
    with pytest.raises(RequirementError) as refused:
        major_minor("x" * 90)
    assert str(refused.value) == f"CUDA_VERSION='{'x' * 80}' is not a version"


def test_the_requirement_of_an_old_image_comes_first() -> None:
    environ = {"NVIDIA_REQUIRE_BRAND": "brand=tesla", "CUDA_VERSION": "11.6"}
    assert requirements(environ) == ("cuda>=11.6", "brand=tesla")
