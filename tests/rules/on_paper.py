"""Stacks written down in a few lines, and what one rule says of them."""

from envlock.manifest.read import loads
from envlock.matrix.loader import load
from envlock.rules.engine import run

MATRIX = load()


def said(rule, text, source="root"):
    """Return the findings of one rule on a manifest whose schema and capture table are filled in."""
    manifest = loads(f'schema = "envlock/1"\n[capture]\nsource = "{source}"\n{text}')
    return [finding for finding in run(manifest, MATRIX).findings if finding.rule == rule]


def one(rule, text, source="root"):
    """Return the only finding of a rule."""
    (finding,) = said(rule, text, source)
    return finding
