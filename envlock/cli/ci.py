"""What a CI system gets of a check or a verify: its own format, chosen by itself on GitHub, and the job's summary."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from envlock.cli import options

if TYPE_CHECKING:
    from envlock.reports.problems import Source
    from envlock.reports.story import Story

SUMMARY_LIMIT = 1024 * 1024
"""Bytes of a step's summary; GitHub shows none that is larger."""


def chosen_format(form: str | None, as_json: bool, output: str | None) -> str:
    """Return the format asked for; where none is and GitHub Actions reads standard output, its annotations."""
    asked = options.chosen_format(form, as_json)
    by_itself = form is None and not as_json and output in (None, "-")
    if by_itself and os.environ.get("GITHUB_ACTIONS") == "true" and not sys.stdout.isatty():
        return "github"
    return asked


def source(path: str | None, foreign: str | None = None) -> Source | None:
    """Return the file that problems are placed in; None for what is no file of a repository.

    ``foreign`` is the text of another tool's lock; a manifest is read here.
    """
    from envlock.manifest.read import read_source
    from envlock.reports.problems import Source

    if path is None or not os.path.isfile(path):
        return None
    if foreign is not None:
        return Source(repository_path(path), foreign, foreign=True)
    return Source(repository_path(path), read_source(path))


def repository_path(path: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return a path as the CI system knows it: from the checkout's root where it lies below, else absolute."""
    top = environ.get("GITHUB_WORKSPACE") or environ.get("CI_PROJECT_DIR") or os.getcwd()
    full, top = os.path.realpath(path), os.path.realpath(top)
    below = os.path.relpath(full, top)
    return full if below.startswith("..") else below


def render(form: str, story: Story, place: Source | None) -> str:
    """Render a check or a verify in one of ``options.CI_FORMATS``; "github" adds to the job's summary, too."""
    from importlib import import_module

    text: str = import_module(f"envlock.reports.{form}").render(story, place)
    if form == "github":
        append_summary(story, os.environ.get("GITHUB_STEP_SUMMARY"))
    return text


def append_summary(story: Story, path: str | None) -> None:
    """Append a story as Markdown to a step's summary; what cannot be written costs a line on stderr, no more."""
    if not path:
        return
    from envlock.reports import markdown

    try:
        held = os.path.getsize(path) if os.path.exists(path) else 0
        page = markdown.page(story)
        if held + len(page.encode()) > SUMMARY_LIMIT:
            page = f"### envlock: {markdown.prose(story.title)}\n\n**{markdown.prose(story.lead)}**\n"
        with open(path, "a", encoding="utf-8") as file:
            file.write(page + "\n")
    except OSError as error:
        click.echo(
            f"note: no summary was written: cannot append to {path}: {error.strerror or error}", err=True
        )
