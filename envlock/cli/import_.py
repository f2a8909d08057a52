"""``envlock import``: a manifest from what people paste into bug reports."""

from __future__ import annotations

import click

from envlock.cli import options


@click.command("import")
@click.argument("report", default="-", metavar="[REPORT]")
@click.option("--name", metavar="LABEL", help="A label for the manifest.")
@options.OUTPUT
def command(report: str, name: str | None, output: str | None) -> None:
    """Read a pasted report ("-" or nothing is standard input) into a manifest.

    Takes the output of torch's collect_env, pip freeze, pip list, conda list, nvidia-smi, transformers env
    and some thirty more, several at once, as they stand in an issue's Markdown. What the paste does not
    hold is not known.
    """
    import msgspec

    import envlock
    from envlock.cli.output import emit
    from envlock.manifest.write import write

    manifest = envlock.from_report(options.read_text(report))
    if name:
        manifest = msgspec.structs.replace(
            manifest, capture=msgspec.structs.replace(manifest.capture, name=name)
        )
    emit(write(manifest), output)
