"""``envlock verify``: does this environment still match its lock?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from envlock.cli import ci, options

if TYPE_CHECKING:
    from envlock.manifest.model import Manifest
    from envlock.probe.root import Root


@click.command("verify")
@click.argument("lock", metavar="[LOCK]", required=False)
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
@click.option("--extra", multiple=True, metavar="NAME", help="An extra of another tool's lock; repeatable.")
@click.option(
    "--group", multiple=True, metavar="NAME",
    help="A dependency group (conda-lock: category, pixi: environment) of another tool's lock; repeatable.",
)  # fmt: skip
@click.option(
    "--fix-hint/--no-fix-hint", default=True, help="End with the command that takes the drift into the lock."
)
@options.JSON
@options.FORMAT_OR_CI
@options.OUTPUT
@options.MATRIX
def command(
    lock: str | None,
    against: str | None,
    python: str | None,
    prefix: str | None,
    root: str | None,
    image: str | None,
    platform: str | None,
    against_machine: str | None,
    driver: str | None,
    gpu: tuple[str, ...],
    extra: tuple[str, ...],
    group: tuple[str, ...],
    fix_hint: bool,
    as_json: bool,
    form: str | None,
    output: str | None,
    matrix: tuple[str, ...],
) -> None:
    """Say whether this environment still matches its lock: image facts match, machine facts satisfy.

    --image and --root look into an image or a folder; --against-machine (or --driver and --gpu) adds the
    machine that it is to run on. Exits with 1 where it does not match.

    LOCK is a manifest or another tool's lock: conda-lock.yml, pylock.toml, requirements.txt, uv.lock, pixi.lock,
    a conda explicit list or environment.yml. With these: is what is installed what the lock says? Packages
    beyond it are drift where it lists all. Without --group the tool's default groups may be there or not.
    Without LOCK the one that the image or folder carries counts (`envlock label`).
    """
    import envlock
    from envlock.cli.output import emit
    from envlock.locks.reference import read

    form = ci.chosen_format(form, as_json, output)
    if lock is None and (not (image or root) or against):
        raise click.UsageError("Missing LOCK; only an image or folder (--image, --root) may carry its own.")
    reference = read(lock) if lock is not None else None
    if reference is None and (extra or group):
        raise click.UsageError("--extra and --group choose parts of another tool's lock; this is a manifest.")
    if reference is not None and (against_machine or driver or gpu):
        raise click.UsageError(f"{lock} locks packages and says nothing of machines.")
    locked = envlock.load(lock) if lock is not None and reference is None else None
    name = lock or "the lock in it"
    with options.place(root, image, platform) as place:
        if lock is None:
            locked, name = _baked(place, image or root or "")
        current = options.manifest_or_live(against, python, prefix, place)
    if reference is not None:
        from envlock.locks.compare_installed import verify as compare

        result = compare(reference, current, extras=extra, groups=group)
    else:
        assert locked is not None
        current = options.on_machine(current, against_machine, driver, gpu)
        result = envlock.verify(locked, current, matrix=matrix)
    hint = None
    if fix_hint and reference is not None:
        hint = ("To bring the environment to the lock", reference.parse().remedy)
    elif fix_hint and result.drift and lock is not None:
        hint = ("To take this into the lock", f"envlock update {lock}")
    if form == "json":
        from envlock.reports import json

        emit(json.verification(result), output)
    elif form != "text":
        from envlock.reports import story
        from envlock.reports.documents import document

        page = story.of_verification(result, locked, current, name, story.label(current, against), hint)
        if form in options.CI_FORMATS:
            place_of = ci.source(lock, reference.text if reference else None)
            emit(ci.render(form, page, place_of), output)
        else:
            emit(document(page, form), output)
    else:
        from envlock.reports import text
        from envlock.reports.style import safe

        told = text.verification(result, options.style(), name, hint=hint is not None and reference is None)
        if reference is not None:
            for each in result.unknown:
                click.echo(f"note: not told: {safe(each.needs)}", err=True)
            if hint and result.problems:
                told += f"{hint[0].lower()}: {safe(hint[1])}\n"
        emit(told, output)
    sys.exit(1 if result.problems else 0)


def _baked(place: Root | None, source: str) -> tuple[Manifest, str]:
    """Return the lock that an image or folder carries, and what it is called."""
    from envlock.locks.label import BAKED, read_baked
    from envlock.manifest.read import loads

    assert place is not None
    if place.kind == "image":
        source = "the image on standard input" if source == "-" else f"image {source}"
    name = f"{BAKED} of {source}"
    return loads(read_baked(place, source).text, name), name
