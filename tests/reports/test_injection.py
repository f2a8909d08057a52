"""Text from outside changes no report's structure: what holds a nasty name is built like what holds a plain one."""

import json
import re
from collections import Counter
from html.parser import HTMLParser
from xml.etree import ElementTree

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

import envlock
from envlock.compare.groups import Alike
from envlock.compare.nodes import compare_nodes
from envlock.locks.export import export
from envlock.locks.export.model import Files, conda_files, pip_files
from envlock.locks.nodes import verify_nodes
from envlock.manifest.model import Capture, Manifest
from envlock.manifest.read import loads
from envlock.manifest.write import write
from envlock.reports import (
    github,
    gitlab,
    html,
    junit,
    markdown,
    nodes_html,
    nodes_markdown,
    nodes_text,
    prometheus,
    sarif,
    story,
    text,
)
from envlock.reports import json as report
from envlock.reports.problems import Source
from envlock.reports.style import Style
from tests.reports.support import EVIL, MATRIX
from tests.reports.test_markdown import render

NASTY = (
    *EVIL,
    "\x1b]0;title\x07", "\x1b]8;;https://x.test\x1b\\link", "\x9b2J", "\x08\x08\x7f", "a\rb", "a\nb", "\u2028c\u2029", "\u2066d",
    '"\n[lock]\nignore = ["*"]\n#', "'''\n[lock]\n", '"""', "\\u0022", "]]\n[[gpu]]", "a = 1 # b",
    "::error file=a::b", "\n::error::x", "%0A::warning::x", "##[error]x", "::stop-commands::x", "a,line=2::b", "]]>", "<!--",
    "-->", "<?php ?>", "&#x1b;[2J", "</testcase>", '"} 1\nenvlock_fake{a="', "=cmd|' /c calc'!A1", "+1", "@SUM(1)", "$(id)",
    "`id`",
    "; id", "${IFS}", "{{7*7}}", "%s%n", "../../etc/passwd", "a" * 500, "\n\n# heading\n", "- [ ] task", "<style>*{}</style>",
    "~~~", "|||",
)  # fmt: skip
"""Escapes, TOML, Markdown, HTML, XML, annotations, labels, formulas, shell: each would be that where it is let through."""

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
PLAIN = "plain"


def stack(word: str, version: str) -> Manifest:
    """Return a stack with a word in every place where a machine puts text of strangers."""
    facts = {
        "schema": "envlock/1",
        "capture": {"name": word, "unobserved": {f"package.pip.u{word}": word}},
        "driver": {"version": "470.256.02", "flavor": word},
        "gpu": [{"name": word, "compute_capability": "9.0", "count": 1}],
        "framework": {"torch": {"version": "2.9.1+cu128", "cuda": "12.8"}},
        "package": {
            "pip": {
                f"n{word}": {"version": version + word, "source": word},
                "numpy": {"version": "1.26.4"},
                "torch": {"version": "2.9.1+cu128"},
            },
            "conda": {f"c{word}": {"version": version, "build": word, "channel": word}},
            "system": {f"s{word}": version + word},
        },
        "requires": {"torch": [f"!{word}"]},
        "environ": {f"NCCL_{word}": version + word},
    }
    return msgspec.convert(facts, Manifest)


def reports(word: str) -> dict[str, str]:
    """Return every report over such stacks, by its format."""
    mine, theirs = stack(word, "1"), stack(word, "2")
    checked, difference = envlock.check(mine), envlock.diff(mine, theirs)
    verified = envlock.verify(mine, theirs)
    of_check = story.of_check(checked, mine, word, everything=True)
    of_diff = story.of_difference(difference, mine, theirs, (word, "theirs"))
    of_verify = story.of_verification(verified, mine, theirs, word, "now")
    place = Source(f"{word}.toml", write(mine))
    kinds = [Alike([f"a{word}", f"b{word}"], mine, []), Alike([f"z{word}"], theirs, [])]
    more = {"failed": {f"f{word}": word}}
    nodes, held = compare_nodes(kinds, MATRIX, **more), verify_nodes(mine, kinds, MATRIX, **more)
    plain = Style(colour=False)
    made = {
        "toml": write(mine),
        "text": text.check(checked, plain, everything=True) + text.difference(difference, plain, everything=True)
        + text.verification(verified, plain, word),
        "nodes text": nodes_text.comparison(nodes, plain, everything=True)
        + nodes_text.verification(held, plain, word, everything=True),
        "json": report.check(checked, mine),
        "json diff": report.difference(difference),
        "json nodes": report.nodes(nodes),
        "markdown nodes": nodes_markdown.comparison(nodes) + nodes_markdown.verification(held, word),
        "html nodes": nodes_html.comparison(nodes),
        "html nodes held": nodes_html.verification(held, word),
        "prometheus": prometheus.comparison(nodes),
        "prometheus held": prometheus.verification(held),
    }  # fmt: skip
    for name, told in (("check", of_check), ("diff", of_diff), ("verify", of_verify)):
        made[f"markdown {name}"] = markdown.page(told, everything=True)
        made[f"html {name}"] = html.page(told)
        if name != "diff":
            for form in (github, gitlab, junit, sarif):
                made[f"{form.__name__.rpartition('.')[2]} {name}"] = form.render(told, place)
    return made


class Tags(HTMLParser):
    """The elements of a page, each with its attributes' names."""

    def __init__(self, page):
        super().__init__()
        self.found = Counter()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        # Ties and marks depend on the words that two texts share; that an element has them does not.
        self.found[
            tag,
            tuple(
                sorted(name for name, _ in attrs if name.startswith("on") or name in ("href", "src", "style"))
            ),
        ] += 1


def structure(form: str, made: str):
    """Return what a reader of the format sees but for the words."""
    kind = form.partition(" ")[0]
    if kind == "toml":
        return [
            (key, type(value).__name__, len(value)) for key, value in msgspec.to_builtins(loads(made)).items()
        ]
    if kind in ("json", "gitlab", "sarif"):
        return _shape(json.loads(made))
    if kind == "html":
        return Tags(made).found
    if kind == "markdown":
        return Tags(render(made)).found
    if kind == "junit":
        return Counter(element.tag for element in ElementTree.fromstring(made).iter())
    if kind == "github":
        return Counter(line.partition(" ")[0] for line in made.splitlines() if line.startswith(("::", "##[")))
    if kind == "prometheus":
        return [(family.name, len(family.samples)) for family in text_string_to_metric_families(made)]
    return len(made.splitlines())


def _shape(value):
    if isinstance(value, dict):
        return len(value)
    return [_shape(each) for each in value] if isinstance(value, list) else type(value).__name__


PLAINLY = {form: structure(form, made) for form, made in reports(PLAIN).items()}


@pytest.mark.parametrize("word", NASTY, ids=ascii)
def test_no_text_from_outside_is_more_than_text(word):
    for form, made in reports(word).items():
        assert structure(form, made) == PLAINLY[form], form
        # JSON escapes what a terminal would obey; HTML and Markdown are not printed raw, but hold none either.
        assert not CONTROL.search(made), form


@pytest.mark.parametrize("kind", ["requirements", "dockerfile", "environment-yml"])
def test_a_nasty_package_adds_no_statement_to_an_export(kind):
    """pip ends a line where str.splitlines does, so that a comment must not hold any of those ends."""
    sound = _statements(kind, PLAIN)
    for word in NASTY:
        assert _statements(kind, word) == sound, ascii(word)


def _statements(kind, word):
    manifest = stack(word, "1")
    bare = (
        manifest.package.conda if kind != "environment-yml" else {}
    )  # its words stand quoted in a statement
    manifest = msgspec.structs.replace(
        manifest, capture=Capture(), package=msgspec.structs.replace(manifest.package, conda=bare)
    )
    made = export(manifest, kind, Files(conda_files(manifest, None), pip_files((), ()))).text
    assert not CONTROL.search(made)
    return [line for line in made.splitlines() if line.strip() and not line.lstrip().startswith("#")]
