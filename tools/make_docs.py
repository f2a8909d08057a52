"""Writes the reference pages from the code as the site is built: commands, rules, the matrix, the changelog.

Run by mkdocs-gen-files (mkdocs.yml); nothing of it is kept in the repository, so that no page can be out of date.
"""

from __future__ import annotations

import html
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

TOP = Path(__file__).parent.parent
sys.path.insert(0, str(TOP))

from envlock.cli import group  # noqa: E402
from envlock.matrix.loader import Matrix, load  # noqa: E402
from envlock.rules.engine import all_rules  # noqa: E402
from envlock.rules.model import LAYERS  # noqa: E402


def pages() -> dict[str, str]:
    """Return every generated page by its path below docs/."""
    matrix = load()
    made = {"reference/commands.md": commands(), "reference/rules.md": rules()}
    made["reference/matrix/index.md"] = subjects(matrix)
    for subject in matrix.subjects():
        made[f"reference/matrix/{subject}.md"] = rows(matrix, subject)
    made["changelog.md"] = (TOP / "CHANGELOG.md").read_text(encoding="utf-8")
    return made


# ---- commands -------------------------------------------------------------------------------------------


def commands() -> str:
    """Return the page of all commands, as their own help says."""
    parts = ["# Commands", "", "What `envlock COMMAND --help` prints. Exit codes: 0 fine, 1 a problem was found, 2 the "
             "command could not do its work. Results go to standard output, everything else to standard error."]  # fmt: skip
    for name, command in _commands(group, "envlock"):
        context = click.Context(command, info_name=name, terminal_width=96, max_content_width=96)
        parts += ["", f"## {name}", "", "```text", command.get_help(context), "```"]
    return "\n".join(parts) + "\n"


def _commands(top: click.Group, prefix: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(top, info_name=prefix)
    for name in top.list_commands(context):
        command = top.get_command(context, name)
        if isinstance(command, click.Group):
            yield from _commands(command, f"{prefix} {name}")
        elif command is not None:
            yield f"{prefix} {name}", command


# ---- rules ----------------------------------------------------------------------------------------------


def rules() -> str:
    """Return the page of all rules, layer by layer, with their own explanations."""
    parts = ["# Rules", "", "Names are stable: waivers and reports use them. A rule without its facts is silent; one without "
             "its row in the [matrix](matrix/index.md) says *unknown*."]  # fmt: skip
    for layer in LAYERS:
        of_layer = [each for each in all_rules() if each.layer == layer]
        if of_layer:
            parts += ["", f"## {layer}"]
        for rule in of_layer:
            parts += ["", f"### {rule.name}", "", f"*{rule.severity}*", "", _prose(rule.explanation)]
    return "\n".join(parts) + "\n"


def _prose(text: str) -> str:
    """Return a docstring as Markdown: its words are plain text, its paragraphs and indented lines stay."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(
        "\n".join(f"    {line}" for line in each.splitlines()) if each.startswith(" ") else _plain(each)
        for each in paragraphs
    )


# ---- matrix ---------------------------------------------------------------------------------------------


def subjects(matrix: Matrix) -> str:
    """Return the page that lists what the matrix is about."""
    parts = ["# Compatibility matrix", "", f"Sources read until {matrix.date().isoformat()}. Every row names its source.", "",
             "| subject | kinds of row | rows |", "|---|---|---|"]  # fmt: skip
    for subject in matrix.subjects():
        kinds = {kind: len(matrix.rows(subject, kind)) for kind in matrix.kinds(subject)}
        parts.append(f"| [{subject}]({subject}.md) | {', '.join(kinds)} | {sum(kinds.values())} |")
    return "\n".join(parts) + "\n"


def rows(matrix: Matrix, subject: str) -> str:
    """Return the page of one subject: a table a kind."""
    parts = [f"# {subject}"]
    for kind in matrix.kinds(subject):
        held = matrix.rows(subject, kind)
        columns = list(dict.fromkeys(name for row in held for name in row))
        columns.sort(key=lambda name: name in ("source", "read"))
        parts += ["", f"## {kind}", "", f"{len(held)} rows.", ""]
        parts += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        parts += ["| " + " | ".join(_cell(row.get(name)) for name in columns) + " |" for row in held]
    return "\n".join(parts) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return " ".join(_cell(each) for each in value)
    if isinstance(value, Mapping):
        return " ".join(f"{_plain(key)}={_cell(each)}" for key, each in value.items())
    return _plain(str(value))


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]|#])", r"\\\1", html.escape(text, quote=False))


def main() -> None:
    """Write the pages into the site that is being built."""
    import mkdocs_gen_files

    for path, text in pages().items():
        with mkdocs_gen_files.open(path, "w") as file:
            file.write(text)


if __name__ in ("__main__", "<run_path>"):
    main()
