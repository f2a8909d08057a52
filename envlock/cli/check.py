"""``envlock check``: can this stack work?"""

from __future__ import annotations

import sys

import click

from envlock.cli import ci, options


@click.command("check")
@click.argument("manifest", required=False, metavar="[ENV.TOML]")
@options.environment
@click.option("--all", "everything", is_flag=True, help="Show notes in full, and defects of rare uses.")
@options.JSON
@options.FORMAT_OR_CI
@options.OUTPUT
@options.MATRIX
def command(
    manifest: str | None,
    python: str | None,
    prefix: str | None,
    everything: bool,
    as_json: bool,
    form: str | None,
    output: str | None,
    matrix: tuple[str, ...],
) -> None:
    """Say whether a stack can work: of a manifest ("-" is standard input), or of this machine.

    Exits with 1 where an error or a warning was found.
    """
    import envlock
    from envlock.cli.output import emit

    form = ci.chosen_format(form, as_json, output)
    stack = options.manifest_or_live(manifest, python, prefix)
    result = envlock.check(stack, matrix=matrix, rare=everything or form == "json")
    if form == "json":
        from envlock.reports import json

        emit(json.check(result, stack), output)
    elif form != "text":
        from envlock.reports import story
        from envlock.reports.documents import document

        told = story.of_check(result, stack, story.label(stack, manifest), everything=everything)
        if form in options.CI_FORMATS:
            emit(ci.render(form, told, ci.source(manifest)), output)
        else:
            emit(document(told, form, everything=everything), output)
    else:
        from envlock.reports import text

        emit(text.check(result, options.style(), everything=everything), output)
    sys.exit(1 if result.verdict == "problem" else 0)
