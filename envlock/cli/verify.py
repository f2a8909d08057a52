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
    fix_hint: bool,
    as_json: bool,
    output: str | None,
    matrix: tuple[str, ...],
) -> None:
    """Say whether this environment still matches its lock: image facts match, machine facts satisfy.

    Exits with 1 where it does not.
    """
    import envlock
    from envlock.cli.output import emit

    locked = envlock.load(lock)
    result = envlock.verify(locked, options.manifest_or_live(against, python, prefix), matrix=matrix)
    if as_json:
        from envlock.reports import json

        emit(json.verification(result), output)
    else:
        from envlock.reports import text

        emit(text.verification(result, options.style(), lock, hint=fix_hint), output)
    sys.exit(1 if result.problems else 0)
