"""What the commands about many machines share: their formats, and how a fleet is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from envlock.cli import options

if TYPE_CHECKING:
    from envlock.fleet.census import Census

FORMAT = click.option(
    "--format",
    "form",
    type=click.Choice([*options.FORMATS, "prometheus"]),
    help="text (the default), json, markdown, html (one file that needs nothing else), or prometheus: what "
    "node_exporter's textfile collector reads (with -o FILE.prom, which is replaced in one step).",
)


def take(fleet: str, keeps: Callable[[str], bool] = lambda address: False) -> Census:
    """Read a fleet and sort its nodes into kinds; raises EnvlockError where none of them has a manifest."""
    from envlock.errors import EnvlockError
    from envlock.fleet.census import take as sort
    from envlock.fleet.store import entries
    from envlock.manifest.node_names import PARTS_SHOWN, fold

    census = sort(entries(fleet), keeps)
    if not census.kinds:
        reason = next(iter(census.failed.values()), "it has no nodes")
        nodes = fold(census.failed, PARTS_SHOWN)
        raise EnvlockError(f"{fleet}: no node has a manifest{f' ({nodes}): {reason}' if nodes else ''}")
    return census
