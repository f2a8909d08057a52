"""Which module sets a report as a document to read elsewhere than in a terminal: Markdown or HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envlock.compare.groups import Grouping
    from envlock.reports.story import Story


def document(story: Story, form: str, *, everything: bool = False) -> str:
    """Set a story as "markdown" or "html"; HTML holds everything in any case."""
    if form == "html":
        from envlock.reports import html

        return html.page(story)
    from envlock.reports import markdown

    return markdown.page(story, everything=everything)


def groups(grouping: Grouping, form: str, *, everything: bool = False) -> str:
    """Set the groups of many machines as "markdown" or "html"."""
    if form == "html":
        from envlock.reports import html

        return html.groups(grouping)
    from envlock.reports import markdown

    return markdown.groups(grouping, everything=everything)
