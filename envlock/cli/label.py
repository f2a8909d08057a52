"""``envlock label``: what a Dockerfile needs to bake a lock into its image."""

from __future__ import annotations

import click

from envlock.cli import options


@click.command("label")
@click.argument("lock", required=False, default="env.toml", metavar="[ENV.TOML]")
@options.OUTPUT
def command(lock: str, output: str | None) -> None:
    """Print the Dockerfile lines that bake a lock into its image, and label it with the lock's digest.

    `envlock verify --image IMAGE` then needs no other file. The lines go at the end of the Dockerfile:
    `envlock label env.toml >> Dockerfile`; --label and --annotation of `docker build` do as well.
    """
    from envlock.cli.output import emit
    from envlock.locks.label import labels
    from envlock.manifest.read import loads, read_source

    if lock == "-":
        raise click.UsageError("COPY takes a file: name the lock.")
    loads(read_source(lock), lock)
    # The digest is over the file as it lies there, byte for byte: that is what COPY takes.
    with open(lock, "rb") as file:
        content = file.read()
    emit(_stanza(lock, labels(content)), output)


def _stanza(lock: str, labels: dict[str, str]) -> str:
    import json
    import os
    import shlex

    from envlock.locks.label import BAKED
    from envlock.reports.style import safe

    path = os.path.relpath(lock)
    lines = ["# The lock travels with the image: `envlock verify --image IMAGE` finds it there."]
    if path.startswith(".."):
        # COPY takes nothing from outside the build context.
        lines.append(f"# Copy {safe(lock)} into the build context first.")
        path = os.path.basename(path)
    lines.append("COPY " + json.dumps([path.replace("$", "\\$"), BAKED]))
    lines.append("LABEL " + " \\\n      ".join(f'{key}="{value}"' for key, value in labels.items()))
    pairs = [shlex.quote(f"{key}={value}") for key, value in labels.items()]
    lines.append(
        "# Instead of LABEL, when building (in BuildKit, --annotation does the same for OCI annotations):"
    )
    lines += ["#   docker build \\"] + [f"#     --label {pair} \\" for pair in pairs] + ["#     ."]
    return "\n".join(lines) + "\n"
