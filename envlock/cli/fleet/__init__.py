"""``envlock fleet``: many machines at once; a subcommand is one module here and one line in the table."""

from __future__ import annotations

import click

from envlock.cli import LazyGroup

COMMANDS = {
    "capture": "Record the stacks of many machines, through the engine that they already run.",
    "diff": "Say which nodes are the odd ones out, and what that breaks.",
    "verify": "Hold all nodes to one lock.",
}
"""Subcommand name to its one line of help; each is the function ``command`` of ``envlock.cli.fleet.<name>``."""


@click.group("fleet", cls=LazyGroup, package="envlock.cli.fleet", table=COMMANDS)
def command() -> None:
    """Capture, compare and verify many machines at once."""
