"""``envlock which``: which copy of a native library would be loaded, and why."""

from __future__ import annotations

import sys

import click

from envlock.cli import options


@click.command("which")
@click.argument("library")
@click.option(
    "--for", "framework", metavar="NAME", help="Only what this framework (torch, jax, ...) would load."
)
@options.environment
@options.ROOT
@options.IMAGE
@options.PLATFORM
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@options.OUTPUT
def command(
    library: str,
    framework: str | None,
    python: str | None,
    prefix: str | None,
    root: str | None,
    image: str | None,
    platform: str | None,
    as_json: bool,
    output: str | None,
) -> None:
    """Show every copy of a library (cudnn, nccl, cudart, libstdcxx ..., or a soname), and which one wins.

    The answer follows the dynamic loader's own order (RPATH, LD_LIBRARY_PATH, RUNPATH, ld.so.cache) for
    each framework; nothing is loaded. Exits with 1 where there is no copy.
    """
    import envlock
    from envlock.cli.output import emit

    with options.place(root, image, platform) as place:
        answer = envlock.which(library, framework=framework, root=place, python=python, prefix=prefix)
    if as_json:
        from envlock.reports.which import as_json as render

        emit(render(library, answer), output)
    else:
        from envlock.reports.which import as_text

        emit(as_text(library, answer, options.style()), output)
    sys.exit(0 if answer.copies else 1)
