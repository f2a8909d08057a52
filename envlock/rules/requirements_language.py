"""The language of NVIDIA_REQUIRE_*: what an image demands of the driver and the GPU, and whether a machine has it.

The grammar is that of nvidia-container-toolkit (internal/requirements) and libnvidia-container
(src/cli/dsl.c)::

    requirement := term (" " term)*             terms are alternatives
    term        := factor ("," factor)*         all factors of a term must hold
    factor      := property operator value
    property    := cuda | driver | arch | brand     another one is passed over
    operator    := = | != | < | <= | > | >=

cuda, driver and arch are versions, brand is a word. A property that is not known holds.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from envlock.errors import EnvlockError

PREFIX = "NVIDIA_REQUIRE_"
_JETPACK = "NVIDIA_REQUIRE_JETPACK"
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
"""What Go's strconv.ParseBool takes for true."""

_VERSIONS = ("cuda", "driver", "arch")
_FACTOR = re.compile(r"(?P<property>[^<>=!]*)(?P<operator>!=|<=|>=|=|<|>)(?P<value>.*)", re.DOTALL)
_VERSION = re.compile(r"v?(\d+(?:\.\d+)*)")
_CUDA_VERSION = re.compile(r"v?(\d+)(?:\.(\d+))?(?:\.\d+)?(?:[-+][0-9A-Za-z.+-]+)?")
_MOST = 4096
"""Factors of one requirement at most; the longest of NVIDIA's images has some two hundred."""

_COMPARE: dict[str, Callable[[tuple[int, ...] | str, tuple[int, ...] | str], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class RequirementError(EnvlockError):
    """A requirement or CUDA_VERSION that is not of this language."""


class Factor(NamedTuple):
    """One comparison: ``cuda >= 12.4``."""

    property: str
    operator: str
    value: str

    def __str__(self) -> str:
        return f"{self.property}{self.operator}{self.value}"


class Facts(NamedTuple):
    """What a machine has; None where it is not known."""

    cuda: str | None = None
    """The highest CUDA that the driver supports."""
    driver: str | None = None
    arch: str | None = None
    """Compute capability of the GPU that is asked about."""
    brand: str | None = None
    """NVML's brand in lower case: tesla, quadro, geforce, nvidiartx ..."""


def requirements(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return an image's requirements from its variables; all of them have to hold.

    An image with CUDA_VERSION and without NVIDIA_REQUIRE_CUDA is of the old kind and demands that CUDA.
    NVIDIA_DISABLE_REQUIRE, where it is true, takes all of them away. Raises RequirementError for a
    CUDA_VERSION of such an image that is no version.
    """
    if environ.get("NVIDIA_DISABLE_REQUIRE", "") in _TRUE:
        return ()
    found = [
        environ[name] for name in sorted(environ) if name.startswith(PREFIX) and not name.startswith(_JETPACK)
    ]
    legacy = environ.get("CUDA_VERSION", "")
    if legacy and not environ.get("NVIDIA_REQUIRE_CUDA"):
        found.insert(0, f"cuda>={major_minor(legacy)}")
    return tuple(found)


def major_minor(text: str) -> str:
    """Return major and minor of an image's CUDA_VERSION ("9.0.116" -> "9.0"); raises RequirementError."""
    found = _CUDA_VERSION.fullmatch(text)
    numbers = [int(part) for part in (found[1][:11], (found[2] or "0")[:11])] if found else []
    if not numbers or max(numbers) > 0xFFFFFFFF:
        raise RequirementError(f"CUDA_VERSION={text[:80]!r} is not a version")
    return f"{numbers[0]}.{numbers[1]}"


def parse(requirement: str) -> tuple[tuple[Factor, ...], ...]:
    """Parse a requirement into alternatives of factors; RequirementError for one that cannot be read.

    Factors of unknown properties are left out, and so are alternatives that have no other.
    """
    terms = []
    count = 0
    for term in requirement.split(" "):
        factors = []
        for text in term.split(","):
            count += 1
            if count > _MOST:
                raise RequirementError(
                    f"a requirement of more than {_MOST} conditions: {requirement[:80]!r} ..."
                )
            factor = parse_factor(text)
            if factor:
                factors.append(factor)
        if factors:
            terms.append(tuple(factors))
    return tuple(terms)


def parse_factor(text: str) -> Factor | None:
    """Parse one comparison; None for an empty one and for an unknown property."""
    if not text.strip():
        return None
    found = _FACTOR.fullmatch(text)
    if not found:
        raise RequirementError(
            f"{text[:80]!r} is not a condition: it lacks an operator (=, !=, <, <=, >, >=)"
        )
    name = found["property"].lower()
    if name not in (*_VERSIONS, "brand"):
        return None
    if name in _VERSIONS and not _VERSION.fullmatch(found["value"]):
        raise RequirementError(f"{text[:80]!r} compares with {found['value'][:40]!r}, which is not a version")
    return Factor(name, found["operator"], found["value"])


def holds(requirement: str, facts: Facts) -> bool:
    """Tell whether a machine meets a requirement; one without any known condition is met."""
    terms = parse(requirement)
    return not terms or any(all(factor_holds(factor, facts) for factor in term) for term in terms)


def factor_holds(factor: Factor, facts: Facts) -> bool:
    """Tell whether one comparison holds; what is not known does."""
    have: str | None = getattr(facts, factor.property)
    if have is None:
        return True
    compare = _COMPARE[factor.operator]
    if factor.property == "brand":
        return compare(have.lower(), factor.value.lower())
    return compare(_key(have), _key(factor.value))


def _key(text: str) -> tuple[int, ...]:
    """Return a version to compare with; zeros at the end do not count."""
    found = _VERSION.match(text)
    numbers = [int(part[:18]) for part in found[1].split(".")] if found else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
