"""Runs the rules over a manifest written in a test, and picks out what one rule says."""

from __future__ import annotations

from functools import lru_cache

from envlock.manifest.read import loads
from envlock.matrix.loader import Matrix, load
from envlock.rules.engine import run
from envlock.rules.model import Finding, Result


@lru_cache(maxsize=1)
def matrix() -> Matrix:
    """Return envlock's own matrix."""
    return load()


def check(text: str, *, partial: bool = False) -> Result:
    """Check a manifest's TOML; ``partial``: as one that was pasted, where what is missing is not known."""
    head = 'schema = "envlock/1"\n'
    if partial:
        head += '[capture]\nsource = "import"\n'
    return run(loads(head + text), matrix())


def found(rule: str, text: str, *, partial: bool = False) -> list[Finding]:
    """Return the findings of one rule."""
    return [finding for finding in check(text, partial=partial).findings if finding.rule == rule]


def only(rule: str, text: str, *, partial: bool = False) -> Finding:
    """Return the one finding of a rule, and fail where there are others."""
    (finding,) = found(rule, text, partial=partial)
    return finding
