"""``envlock capture``: record a stack as a manifest."""

from __future__ import annotations

import click

from envlock.cli import options


@click.command("capture")
@options.environment
@options.OUTPUT
@click.option("--name", metavar="LABEL", help="A label for the manifest; the host name is never recorded.")
@click.option("--reproducible", is_flag=True, help="Leave the time out: equal stacks give equal files.")
@click.option(
    "--all-system-packages", is_flag=True, help="Record every dpkg, rpm or apk package, not only the stack's."
)
def command(
    python: str | None,
    prefix: str | None,
    output: str | None,
    name: str | None,
    reproducible: bool,
    all_system_packages: bool,
) -> None:
    """Record the stack of this machine as a manifest (TOML).

    The environment is the one in use: VIRTUAL_ENV, CONDA_PREFIX or PATH's python, not the one envlock
    is installed in; --python and --prefix choose another.
    """
    import datetime

    import envlock
    from envlock.cli.output import emit
    from envlock.manifest.write import write

    time = None if reproducible else datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    manifest = envlock.capture(
        python=python, prefix=prefix, name=name, time=time, all_system_packages=all_system_packages
    )
    emit(write(manifest), output)
