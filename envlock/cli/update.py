"""``envlock update``: take the drift into the lock."""

from __future__ import annotations

import click

from envlock.cli import options


@click.command("update")
@click.argument("lock", metavar="LOCK.TOML")
@click.option(
    "--against", metavar="ENV.TOML", help="Take the facts from this manifest instead of this machine."
)
@options.environment
@click.option("-o", "--output", metavar="FILE", help="Write to FILE instead of the lock itself.")
def command(
    lock: str, against: str | None, python: str | None, prefix: str | None, output: str | None
) -> None:
    """Bring a lock's facts to what they are now; comments, order and the [lock] tables stay.

    What cannot be seen from here (a driver, on a machine without one) stays as it was.
    """
    from envlock.cli.output import emit
    from envlock.locks.update import update
    from envlock.manifest.read import loads, read_source

    text = read_source(lock)
    locked = loads(text, lock)
    current = options.manifest_or_live(against, python, prefix)
    emit(update(text, locked, current), output or lock)
