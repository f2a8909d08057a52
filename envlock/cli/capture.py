"""``envlock capture``: record a stack as a manifest."""

from __future__ import annotations

import click

from envlock.cli import options


@click.command("capture")
@options.environment
@options.OUTPUT
@options.ROOT
@options.IMAGE
@options.PLATFORM
@click.option(
    "--from", "document", metavar="FILE", help='Take what `envlock probe` printed ("-" is standard input).'
)
@click.option("--name", metavar="LABEL", help="A label for the manifest; the host name is never recorded.")
@click.option("--reproducible", is_flag=True, help="Leave the time out: equal stacks give equal files.")
@click.option(
    "--deep", is_flag=True, help="Compare every installed file with its package's own record; reads them all."
)
@click.option(
    "--all-system-packages", is_flag=True, help="Record every dpkg, rpm or apk package, not only the stack's."
)
def command(
    python: str | None,
    prefix: str | None,
    output: str | None,
    root: str | None,
    image: str | None,
    platform: str | None,
    document: str | None,
    name: str | None,
    reproducible: bool,
    deep: bool,
    all_system_packages: bool,
) -> None:
    """Record the stack of this machine, of a folder or of an image as a manifest (TOML).

    The environment is the one in use: VIRTUAL_ENV, CONDA_PREFIX or PATH's python, not the one envlock
    is installed in; --python and --prefix choose another.
    """
    import datetime

    import envlock
    from envlock.cli.output import emit

    time = None if reproducible else datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    if document is not None:
        if python or prefix or root or image or all_system_packages or deep:
            raise click.UsageError("--from takes what was observed elsewhere: nothing is looked at here.")
        manifest = envlock.from_observation(options.read_json(document), name=name, time=time)
    else:
        with options.place(root, image, platform, whole=deep) as place:
            manifest = envlock.capture(
                place, python=python, prefix=prefix, name=name, time=time, all_system_packages=all_system_packages,
                deep=deep, fork=True,
            )  # fmt: skip
    from envlock.manifest.write import write  # beside a capture that began, not before it

    emit(write(manifest), output)
