"""``envlock probe``: the script that travels to machines without envlock."""

from __future__ import annotations

import click

from envlock.cli import options


@click.command("probe")
@options.OUTPUT
def command(output: str | None) -> None:
    """Print a script that any CPython 3.8 or newer runs with nothing installed.

    It prints what there is on its machine as JSON, which `envlock capture --from` turns into a manifest:

    \b
        envlock probe -o probe.pyz
        ssh node python3 - < probe.pyz > node.json
        docker exec -i box python3 - < probe.pyz > box.json
        envlock capture --from node.json > node.toml
    """
    import envlock
    from envlock.cli.output import emit
    from envlock.roots.bundle import bundle

    emit(bundle(envlock.__version__), output)
