"""Stacks written down in a few lines of TOML, and what the rules say of them."""

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


def check(text: str, source: str = "") -> Result:
    """Check a manifest's TOML; ``source`` is "import" for one that was pasted: what is missing there is not known."""
    capture = f'[capture]\nsource = "{source}"\n' if source else ""
    return run(loads(f'schema = "envlock/1"\n{capture}{text}'), matrix())


def found(rule: str, text: str, source: str = "") -> list[Finding]:
    """Return the findings of one rule."""
    return [finding for finding in check(text, source).findings if finding.rule == rule]


def only(rule: str, text: str, source: str = "") -> Finding:
    """Return the one finding of a rule, and fail where there are others."""
    (finding,) = found(rule, text, source)
    return finding


def pip(**versions: str) -> str:
    """Return the table of pip's packages; an underscore of a name stands for its hyphen."""
    lines = [f'{name.replace("_", "-")} = {{ version = "{text}" }}' for name, text in versions.items()]
    return "[package.pip]\n" + "\n".join(lines) + "\n"
