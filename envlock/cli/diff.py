"""``envlock diff``: what differs, and which difference is to blame."""

from __future__ import annotations

import sys

import click

from envlock.cli import options


@click.command("diff")
@click.argument("mine", metavar="MINE.TOML")
@click.argument("theirs", metavar="THEIRS.TOML")
@click.option("--bad", type=click.Choice(["mine", "theirs"]), help="Which side fails, where that is known.")
@click.option("--log", metavar="FILE", help='The error text: a traceback or job log ("-" is standard input).')
@click.option("--all", "everything", is_flag=True, help="List every difference and every possible cause.")
@options.JSON
@options.OUTPUT
@options.MATRIX
def command(
    mine: str,
    theirs: str,
    bad: str | None,
    log: str | None,
    everything: bool,
    as_json: bool,
    output: str | None,
    matrix: tuple[str, ...],
) -> None:
    """Say what differs between two stacks, and which difference is to blame.

    Exits with 1 where anything differs, 0 where nothing does.
    """
    import envlock
    from envlock.cli.output import emit

    if [mine, theirs, log].count("-") > 1:
        raise click.UsageError("standard input can be read only once.")
    one, two = envlock.load(mine), envlock.load(theirs)
    with options.lines(log) as lines:
        result = envlock.diff(one, two, bad=bad, log=lines, matrix=matrix)
    if as_json:
        from envlock.reports import json

        emit(json.difference(result), output)
    else:
        from envlock.reports import text

        emit(text.difference(result, options.style(), everything=everything), output)
    sys.exit(1 if result.verdict == "problem" else 0)
