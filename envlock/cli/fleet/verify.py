"""``envlock fleet verify``: do all nodes match one lock?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from envlock.cli import options
from envlock.cli.fleet.options import FORMAT, take

if TYPE_CHECKING:
    from envlock.locks.nodes import NodesVerification


@click.command("verify")
@click.argument("lock", metavar="LOCK")
@click.argument("fleet", metavar="FLEET")
@click.option("--all", "everything", is_flag=True, help="List every node and every drift.")
@options.JSON
@FORMAT
@options.OUTPUT
@options.MATRIX
def command(
    lock: str,
    fleet: str,
    everything: bool,
    as_json: bool,
    form: str | None,
    output: str | None,
    matrix: tuple[str, ...],
) -> None:
    """Hold all nodes of a fleet to one lock; nodes with equal drift stand together.

    LOCK is a manifest; its policy ([lock]) holds for every node, and its waivers for what the nodes differ in among
    themselves. FLEET is a folder or a file as `envlock fleet capture` writes it. Exits with 1 where a node does not
    match, differs from the others in what must be the same, or gave no manifest.
    """
    import envlock
    from envlock.cli.output import emit
    from envlock.fleet.census import without_own
    from envlock.locks.nodes import verify_nodes
    from envlock.locks.policy import allowance
    from envlock.matrix.loader import load

    form = options.chosen_format(form, as_json)
    if lock == fleet == "-":
        raise click.UsageError("LOCK and FLEET cannot both come from standard input.")
    locked = envlock.load(lock)

    def keeps(address: str) -> bool:
        return allowance(locked.lock, address) is not None

    census = take(fleet, keeps)
    common = without_own(locked, census.own, keeps)
    result = verify_nodes(
        common, census.kinds, load(matrix), failed=census.failed, own=census.own, uncompared=census.uncompared
    )
    emit(_render(result, form, everything, "the lock" if lock == "-" else lock), output)
    sys.exit(1 if result.verdict == "problem" else 0)


def _render(result: NodesVerification, form: str, everything: bool, lock: str) -> str:
    if form == "json":
        from envlock.reports import json

        return json.nodes_verification(result)
    if form == "prometheus":
        from envlock.reports import prometheus

        return prometheus.verification(result)
    if form == "html":
        from envlock.reports import nodes_html

        return nodes_html.verification(result, lock)
    if form == "markdown":
        from envlock.reports import nodes_markdown

        return nodes_markdown.verification(result, lock, everything=everything)
    from envlock.reports import nodes_text

    return nodes_text.verification(result, options.style(), lock, everything=everything)
