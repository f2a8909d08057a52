"""``envlock verify``: does this environment still match its lock?"""

from __future__ import annotations

import sys

import click

from envlock.cli import options


@click.command("verify")
@click.argument("lock", metavar="LOCK.TOML")
@click.option(
    "--against", metavar="ENV.TOML", help="Compare this manifest instead of capturing this machine."
)
@options.environment
@options.ROOT
@options.IMAGE
@options.PLATFORM
@click.option(
    "--against-machine", metavar="NODE.TOML", help="Hold the machine's facts of this manifest to the lock."
)
@click.option("--driver", metavar="VERSION", help="A machine stated by hand: its driver.")
@click.option("--gpu", multiple=True, metavar="NAME", help="A machine stated by hand: its GPU; repeatable.")
@click.option(
    "--fix-hint/--no-fix-hint", default=True, help="End with the command that takes the drift into the lock."
)
@options.JSON
@options.OUTPUT
@options.MATRIX
def command(
    lock: str,
    against: str | None,
    python: str | None,
    prefix: str | None,
    root: str | None,
    image: str | None,
    platform: str | None,
    against_machine: str | None,
    driver: str | None,
    gpu: tuple[str, ...],
    fix_hint: bool,
    as_json: bool,
    output: str | None,
    matrix: tuple[str, ...],
) -> None:
    """Say whether this environment still matches its lock: image facts match, machine facts satisfy.

    --image and --root look into an image or a folder; --against-machine (or --driver and --gpu) adds the
    machine that it is to run on. Exits with 1 where it does not match.
    """
    import envlock
    from envlock.cli.output import emit

    locked = envlock.load(lock)
    with options.place(root, image, platform) as place:
        current = options.manifest_or_live(against, python, prefix, place)
    current = options.on_machine(current, against_machine, driver, gpu)
    result = envlock.verify(locked, current, matrix=matrix)
    if as_json:
        from envlock.reports import json

        emit(json.verification(result), output)
    else:
        from envlock.reports import text

        emit(text.verification(result, options.style(), lock, hint=fix_hint), output)
    sys.exit(1 if result.problems else 0)
