"""Environment markers (PEP 508) that need no parser: comparisons of the usual variables, joined by and, or, parentheses.

Most markers in the world are such, and packaging's parser costs more to import than a capture takes to
evaluate them. Whatever is not plain is left to packaging.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_TOKEN = re.compile(
    r"\s*(?:([()])|(and|or)\b|([a-z_]{2,40})\s*(==|!=|<=|>=|<|>)\s*(?:\"([\w.-]{1,60})\"|'([\w.-]{1,60})'))",
    re.A,
)
_VERSION = re.compile(r"\d{1,6}(?:\.\d{1,6}){0,3}\Z", re.A)
_WORD = re.compile(r"(?!v\d)[A-Za-z]\w*\Z", re.A)
_VERSIONS = ("python_version", "python_full_version")
_WORDS = (
    "sys_platform", "os_name", "platform_system", "platform_machine", "implementation_name",
    "platform_python_implementation",
)  # fmt: skip
_DEPTH_LIMIT = 20


class _NotPlainError(Exception):
    pass


def evaluate_plain(marker: str, environment: Mapping[str, str]) -> bool | None:
    """Tell whether a marker holds where no extra is asked for; None where it takes a parser to tell."""
    tokens = []
    at = 0
    while at < len(marker):
        found = _TOKEN.match(marker, at)
        if found is None:
            return None
        tokens.append(found.groups())
        at = found.end()
    try:
        value = _any(tokens, environment, 0)
    except (_NotPlainError, IndexError):
        return None
    return None if tokens else value


def _any(tokens: list[tuple[str | None, ...]], environment: Mapping[str, str], depth: int) -> bool:
    """Take "a and b or c ..." off the tokens, up to a closing parenthesis or their end."""
    if depth > _DEPTH_LIMIT:
        raise _NotPlainError
    held, group = False, True
    while True:
        bracket, word, name, operator, quoted, other = tokens.pop(0)
        if bracket == "(":
            group &= _any(tokens, environment, depth + 1)
            if tokens.pop(0)[0] != ")":
                raise _NotPlainError
        elif name and operator:
            group &= _compare(name, operator, quoted or other or "", environment)
        else:
            raise _NotPlainError
        if not tokens or tokens[0][0] == ")":
            return held or group
        word = tokens.pop(0)[1]
        if word == "or":
            held, group = held or group, True
        elif word != "and":
            raise _NotPlainError


def _compare(name: str, operator: str, value: str, environment: Mapping[str, str]) -> bool:
    if name == "extra" and operator in ("==", "!="):
        return operator == "!="
    here = environment.get(name, "")
    if name in _VERSIONS and _VERSION.match(value) and _VERSION.match(here):
        left, right = ([*map(int, each.split(".")), 0, 0, 0][:4] for each in (here, value))
        return {"==": left == right, "!=": left != right, "<": left < right, ">": left > right,
                "<=": left <= right, ">=": left >= right}[operator]  # fmt: skip
    if name in _WORDS and operator in ("==", "!=") and here and _WORD.match(value):
        return (here == value) == (operator == "==")
    raise _NotPlainError
