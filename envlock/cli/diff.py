"""``envlock diff``: what differs, and which difference is to blame."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from envlock.cli import options

if TYPE_CHECKING:
    from envlock.manifest.model import Manifest


@click.command("diff")
@click.argument("mine", metavar="MINE.TOML")
@click.argument("theirs", metavar="THEIRS.TOML")
@click.argument("more", metavar="[MORE.TOML]...", nargs=-1)
@click.option("--bad", type=click.Choice(["mine", "theirs"]), help="Which side fails, where that is known.")
@click.option("--log", metavar="FILE", help='The error text: a traceback or job log ("-" is standard input).')
@click.option("--all", "everything", is_flag=True, help="List every difference and every possible cause.")
@options.JSON
@options.FORMAT
@options.OUTPUT
@options.MATRIX
def command(
    mine: str,
    theirs: str,
    more: tuple[str, ...],
    bad: str | None,
    log: str | None,
    everything: bool,
    as_json: bool,
    form: str | None,
    output: str | None,
    matrix: tuple[str, ...],
) -> None:
    """Say what differs between two stacks, and which difference is to blame.

    A run of an experiment tracker stands for its manifest: mlflow:RUN_ID, wandb:ENTITY/PROJECT/RUN_ID or
    wandb:FOLDER of an offline run.

    Three or more are grouped: equal machines together, each group described by what sets it apart from the
    majority. Exits with 1 where anything differs, 0 where nothing does.
    """
    import envlock
    from envlock import integrations
    from envlock.cli.output import emit

    form = options.chosen_format(form, as_json)
    paths = [mine, theirs, *more]
    if [*paths, log].count("-") > 1:
        raise click.UsageError("standard input can be read only once.")
    if more and (bad or log):
        raise click.UsageError(f"--bad and --log are about two manifests; {len(paths)} were given.")
    manifests = [integrations.load(path) for path in paths]
    if more:
        text, verdict = _groups(manifests, paths, form, everything, matrix)
        emit(text, output)
        sys.exit(1 if verdict == "problem" else 0)
    with options.lines(log) as lines:
        result = envlock.diff(*manifests, bad=bad, log=lines, matrix=matrix)
    if form == "json":
        from envlock.reports import json

        emit(json.difference(result), output)
    elif form in options.DOCUMENTS:
        from envlock.reports import story
        from envlock.reports.documents import document

        one, two = manifests
        names = (story.label(one, mine), story.label(two, theirs))
        told = story.of_difference(result, one, two, names)
        emit(document(told, form, everything=everything), output)
    else:
        from envlock.reports import text as terminal

        emit(terminal.difference(result, options.style(), everything=everything), output)
    sys.exit(1 if result.verdict == "problem" else 0)


def _groups(
    manifests: list[Manifest], paths: list[str], form: str, everything: bool, matrix: tuple[str, ...]
) -> tuple[str, str]:
    """Return the report on three or more machines, and its verdict."""
    from envlock.compare.groups import group
    from envlock.matrix.loader import load
    from envlock.reports import documents, groups_text, json, story

    names = story.labels(manifests, paths)
    grouping = group(list(zip(names, manifests, strict=True)), load(matrix))
    if form == "json":
        return json.groups(grouping), grouping.verdict
    if form in options.DOCUMENTS:
        return documents.groups(grouping, form, everything=everything), grouping.verdict
    return groups_text.groups(grouping, options.style(), everything=everything), grouping.verdict
