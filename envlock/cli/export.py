"""``envlock export``: back into the formats that installers read."""

from __future__ import annotations

import click

from envlock.cli import options
from envlock.locks.export import FORMATS


@click.command("export")
@click.argument("kind", metavar="FORMAT", type=click.Choice(list(FORMATS)))
@click.argument("manifest", required=False, metavar="[ENV.TOML]")
@options.environment
@click.option(
    "--find-links", multiple=True, metavar="DIR", help="Folder of wheels: where files and hashes are looked up; repeatable."
)  # fmt: skip
@click.option(
    "--index-url", multiple=True, metavar="URL", help="Index to ask for files and hashes of each version; repeatable."
)  # fmt: skip
@options.OUTPUT
def command(
    kind: str,
    manifest: str | None,
    python: str | None,
    prefix: str | None,
    find_links: tuple[str, ...],
    index_url: tuple[str, ...],
    output: str | None,
) -> None:
    """Write the packages of a manifest (or of this machine) as conda-lock, pylock, requirements, environment-yml,
    conda-explicit, cyclonedx or dockerfile.

    Nothing is solved and nothing guessed: what a format cannot hold, or what is not known, is said on standard
    error and in a comment. Addresses of conda packages come from the prefix, where it is on this machine
    (--prefix); files and hashes of pip packages from --find-links and --index-url.
    """
    import envlock
    from envlock.cli.output import emit
    from envlock.locks.export import export
    from envlock.locks.export.model import Files, conda_files, pip_files
    from envlock.reports.style import safe

    if manifest and python:
        raise click.UsageError("--python chooses an environment of this machine; a manifest was given.")
    held = envlock.load(manifest) if manifest else envlock.capture(python=python, prefix=prefix, fork=True)
    files = Files(conda_files(held, prefix), pip_files(find_links, index_url))
    made = export(held, kind, files)
    for note in made.notes:
        click.echo(f"note: not in {kind}: {safe(_clip(note))}", err=True)
    emit(made.text, output)


def _clip(note: str, limit: int = 300) -> str:
    """Return a note that a terminal can hold; the comment in the file names every package."""
    return note if len(note) <= limit else note[: limit - 1] + "…"
