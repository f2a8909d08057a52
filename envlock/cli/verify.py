"""``envlock verify``: does this environment still match its lock?"""

from __future__ import annotations

import sys

import click

from envlock.cli import options


@click.command("verify")
@click.argument("lock", metavar="LOCK")
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
@options.FORMAT
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
    """
    import envlock
    from envlock.cli.output import emit
    from envlock.locks.reference import read

    form = options.chosen_format(form, as_json)
    reference = read(lock)
    if reference is None and (extra or group):
        raise click.UsageError("--extra and --group choose parts of another tool's lock; this is a manifest.")
    if reference is not None and (against_machine or driver or gpu):
        raise click.UsageError(f"{lock} locks packages and says nothing of machines.")
    locked = None if reference else envlock.load(lock)
    with options.place(root, image, platform) as place:
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
    elif fix_hint and result.drift:
        hint = ("To take this into the lock", f"envlock update {lock}")
    if form == "json":
        from envlock.reports import json

        emit(json.verification(result), output)
    elif form in options.DOCUMENTS:
        from envlock.reports import story
        from envlock.reports.documents import document

        page = story.of_verification(result, locked, current, lock, story.label(current, against), hint)
        emit(document(page, form), output)
    else:
        from envlock.reports import text
        from envlock.reports.style import safe

        told = text.verification(result, options.style(), lock, hint=fix_hint and reference is None)
        if reference is not None:
            for each in result.unknown:
                click.echo(f"note: not told: {safe(each.needs)}", err=True)
            if hint and result.problems:
                told += f"{hint[0].lower()}: {safe(hint[1])}\n"
        emit(told, output)
    sys.exit(1 if result.problems else 0)
