"""``envlock fleet diff``: which nodes are the odd ones out, and what that breaks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from envlock.cli import options
from envlock.cli.fleet.options import FORMAT, take

if TYPE_CHECKING:
    from envlock.compare.nodes import NodesComparison


@click.command("diff")
@click.argument("fleet", metavar="FLEET")
@click.option("--all", "everything", is_flag=True, help="List every group, node and difference.")
@options.JSON
@FORMAT
@options.OUTPUT
@options.MATRIX
def command(
    fleet: str,
    everything: bool,
    as_json: bool,
    form: str | None,
    output: str | None,
    matrix: tuple[str, ...],
) -> None:
    """Say which nodes of a fleet are the odd ones out, in what, and what that breaks.

    FLEET is a folder of manifests or a file of them, as `envlock fleet capture` writes it ("-" is such a file on
    standard input). Equal nodes stand together; what belongs to a node (its network interfaces, the GPUs that the
    scheduler gave it) sets nobody apart. Exits with 1 where nodes differ or gave no manifest.
    """
    from envlock.cli.output import emit
    from envlock.compare.nodes import compare_nodes
    from envlock.matrix.loader import load

    form = options.chosen_format(form, as_json)
    census = take(fleet)
    result = compare_nodes(
        census.kinds, load(matrix), failed=census.failed, own=census.own, uncompared=census.uncompared
    )
    emit(_render(result, form, everything), output)
    sys.exit(1 if result.verdict == "problem" else 0)


def _render(result: NodesComparison, form: str, everything: bool) -> str:
    if form == "json":
        from envlock.reports import json

        return json.nodes(result)
    if form == "prometheus":
        from envlock.reports import prometheus

        return prometheus.comparison(result)
    if form == "html":
        from envlock.reports import nodes_html

        return nodes_html.comparison(result)
    if form == "markdown":
        from envlock.reports import nodes_markdown

        return nodes_markdown.comparison(result, everything=everything)
    from envlock.reports import nodes_text

    return nodes_text.comparison(result, options.style(), everything=everything)
