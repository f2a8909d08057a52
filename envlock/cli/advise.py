"""``envlock advise``: what would run here?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from envlock.cli import options

if TYPE_CHECKING:
    from envlock.manifest.model import Manifest
    from envlock.matrix.loader import Matrix


@click.command("advise")
@click.argument("requirement")
@click.argument("manifest", required=False, metavar="[ENV.TOML]")
@click.option(
    "--gpu", metavar="NAME", help='A GPU by name, capability or architecture: "NVIDIA H100", 9.0, sm_90.'
)
@click.option("--driver", metavar="VERSION", help="A driver version, such as 550.54.")
@click.option("--python", metavar="VERSION", help="A Python version, such as 3.11.")
@click.option("--libc", metavar="VERSION", help="A glibc version, such as 2.31.")
@click.option("--all", "everything", is_flag=True, help="Show every build.")
@options.JSON
@options.OUTPUT
@options.MATRIX
def command(
    requirement: str,
    manifest: str | None,
    gpu: str | None,
    driver: str | None,
    python: str | None,
    libc: str | None,
    everything: bool,
    as_json: bool,
    output: str | None,
    matrix: tuple[str, ...],
) -> None:
    """Say which builds of a framework would run here, and the command that installs them.

    REQUIREMENT is torch, jax, tensorflow or onnxruntime-gpu, with a version or without: torch==2.9.*

    "Here" is a manifest ("-" is standard input), else this machine. With --gpu or --driver and no manifest
    it is a machine that is not at hand, of which nothing is known but what the options say; else the
    options stand in for what the manifest or this machine has. Exits with 1 where nothing would run.
    """
    import envlock
    from envlock.cli.output import emit
    from envlock.manifest.model import Capture, Manifest
    from envlock.matrix.loader import load
    from envlock.reports import advice
    from envlock.rules.advise import builds_that_run, judge
    from envlock.rules.builds import parsed
    from envlock.rules.stack import Stack

    project, specifier = parsed(requirement)
    rows = load(matrix)
    if manifest is not None:
        stack = envlock.load(manifest)
    elif gpu or driver:
        # An import is a manifest of which what is missing is not known: just that is meant here.
        stack = Manifest(capture=Capture(source="import"))
    else:
        stack = envlock.capture(fork=True)
    here = Stack(_with(stack, rows, gpu=gpu, driver=driver, python=python, libc=libc))
    judged = judge(here, rows, project, specifier)
    others = builds_that_run(here, rows, project) if specifier and advice.verdict(judged) == "problem" else []
    asked = advice.Asked(project, specifier, here, rows, instead=others[0] if others else None)
    if as_json:
        emit(advice.as_json(asked, judged), output)
    else:
        emit(advice.as_text(asked, judged, options.style(), everything=everything), output)
    sys.exit(1 if advice.verdict(judged) == "problem" else 0)


def _with(
    manifest: Manifest,
    rows: Matrix,
    *,
    gpu: str | None,
    driver: str | None,
    python: str | None,
    libc: str | None,
) -> Manifest:
    """Return a manifest in which the stated facts stand in for its own."""
    from envlock.manifest.address import replace
    from envlock.rules.advise import stated_gpu

    changes: dict[str, Any] = {}
    if gpu:
        changes["gpu"] = [stated_gpu(gpu, rows)]
    if driver:
        _number(driver, "--driver", "550.54.14")
        changes["driver"] = {"version": driver}
    if python:
        _number(python, "--python", "3.11")
        changes["python"] = {"version": python}
    if libc:
        number = libc.removeprefix("glibc").strip(" -")
        _number(number, "--libc", "2.31")
        changes["os.libc"] = f"glibc {number}"
    return replace(manifest, changes) if changes else manifest


def _number(text: str, option: str, example: str) -> None:
    from envlock.manifest.versions import release

    if len(release(text)) < (1 if option == "--driver" else 2):
        raise click.BadParameter(f"{text!r} is not a version such as {example}", param_hint=option)
