"""The HTML report: one file that asks for nothing, holds no markup from outside, and fits a telephone in a real Chromium."""

import itertools
import re
from html.parser import HTMLParser

import pytest

from envlock.reports import html, html_parts, nodes_html
from envlock.reports.story import LAYERS
from tests.cli.support import run
from tests.reports import browser, support

VOID = {"meta", "input", "br"}


class Page(HTMLParser):
    """Every element with its attributes, and that all of them close in order."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def tags(self, name):
        return [attributes for tag, attributes in self.found if tag == name]


def pages():
    return {
        "diff": html.page(support.diff_story()),
        "nccl": html.page(support.diff_story(two="other-nccl")),
        "same": html.page(support.diff_story(two="train-h100")),
        "check": html.page(support.check_story()),
        "groups": html.groups(support.grouping()),
        **{f"hostile-{story.command}": html.page(story) for story in support.hostile_stories()},
        "hostile-groups": html.groups(support.hostile_grouping()),
        "nodes": nodes_html.comparison(support.nodes()[0]),
        "nodes-verify": nodes_html.verification(support.nodes()[1], "job.toml"),
        "hostile-nodes": nodes_html.comparison(support.nodes(hostile_names=True)[0]),
        "hostile-nodes-verify": nodes_html.verification(
            support.nodes(hostile_names=True)[1], support.EVIL[0]
        ),
    }


@pytest.fixture(scope="module")
def made():
    return pages()


def test_the_cause_is_marked_and_its_chain_runs_through_the_layers(made):
    page = Page(made["diff"])
    layers = {
        a["id"]: a["class"].split() for a in page.tags("details") if "layer" in a.get("class", "").split()
    }
    assert {"linked", "origin", "first"} <= set(layers["layer-driver"])
    assert {"linked", "last"} <= set(layers["layer-framework"])
    assert "origin" not in layers["layer-framework"]
    assert "same" in layers["layer-package"] and "same" not in layers["layer-driver"]
    assert list(layers) == [f"layer-{layer.key}" for layer in LAYERS if f"layer-{layer.key}" in layers]
    chain = made["diff"].split('<ol class="chain"')[1].split("</ol>")[0]
    words = re.sub(r"<[^>]+>", " ", chain)
    assert re.search(
        r"driver\.version\s+changed.*framework\.torch\.cuda\s+12\.8.*too old for CUDA 12\.8.*gone",
        words,
        re.DOTALL,
    )


def test_structure(made):
    for name, text in made.items():
        page = Page(text)
        assert page.tags("html")[0]["lang"] == "en"
        assert len(page.tags("h1")) == len(page.tags("main")) == len(page.tags("title")) == 1
        order = [int(tag[1]) for tag, _ in page.found if re.fullmatch("h[1-6]", tag)]
        assert all(two - one <= 1 for one, two in itertools.pairwise(order)), (name, order)
        identities = [a["id"] for _, a in page.found if "id" in a]
        assert len(identities) == len(set(identities))
        targets = {a["href"][1:] for a in page.tags("a") if a["href"].startswith("#")}
        assert targets <= set(identities), name
        labelled = {a["for"] for a in page.tags("label")}
        assert {a["id"] for a in page.tags("input")} <= labelled
        assert len(page.tags("table")) == len(page.tags("tbody"))


def test_it_asks_for_nothing_and_lets_nothing_in(made):
    for text in made.values():
        page = Page(text)
        policy = next(a["content"] for a in page.tags("meta") if a.get("http-equiv"))
        assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy and "http" not in policy
        assert len(page.tags("script")) == len(page.tags("style")) == 1
        for tag, attributes in page.found:
            assert tag not in ("img", "link", "iframe", "object", "svg", "base", "form", "b")
            assert not any(name.startswith("on") or name in ("style", "src") for name in attributes), (
                attributes
            )
            assert re.match(r"#layer-[a-z]+\Z|https://", attributes.get("href", "https://"))


def test_hostile_text_is_text(made):
    text = made["hostile-diff"]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert not re.search(r"<script>alert|onerror=alert\(1\)>|\x1b|\u202e", text)


def test_it_is_the_same_each_time():
    assert pages() == pages()


def contrast(one, two):
    def luminance(colour):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(one), luminance(two)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_as_wcag_asks(scheme):
    block = re.findall(r":root \{(.*?)\}", html_parts.STYLE, re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block))
    pairs = [(text, ground) for text in ("ink", "soft", "link") for ground in ("page", "sheet", "quiet")]
    pairs += [("cause", each) for each in ("page", "sheet", "quiet", "cause-tint")]
    pairs += [("maybe", each) for each in ("sheet", "maybe-tint")]
    pairs += [("ink", "cause-tint"), ("soft", "cause-tint"), ("ink", "hit")]
    low = {pair: contrast(colours[pair[0]], colours[pair[1]]) for pair in pairs}
    assert {pair: ratio for pair, ratio in low.items() if ratio < 4.5} == {}


def test_the_command_writes_the_file(tmp_path):
    out = tmp_path / "why.html"
    mine, theirs = support.EXAMPLES / "train-h100.toml", support.EXAMPLES / "old-driver.toml"
    done = run("diff", mine, theirs, "--format", "html", "-o", out)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert "<h1>Why node-17 fails and train does not</h1>" in out.read_text(encoding="utf-8")


def test_json_and_another_format_at_once_are_refused():
    example = support.EXAMPLES / "old-driver.toml"
    done = run("check", example, "--json", "--format", "html")
    assert done.returncode == 2 and "--json is short for --format json" in done.stderr
    assert run("check", example, "--json").stdout == run("check", example, "--format", "json").stdout


# ---- in a real browser -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    program = browser.find()
    if program is None:
        pytest.skip(f"none of {', '.join(browser.NAMES)} is installed")
    running = browser.Browser(program, tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def files(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    written = {name: folder / f"{name}.html" for name in made}
    for name, path in written.items():
        path.write_text(made[name], encoding="utf-8")
    return written


OPEN_ALL = "document.querySelectorAll('details').forEach((fold) => { fold.open = true; })"
WIDTH = "document.documentElement.scrollWidth"
BEYOND = (
    "Array.from(document.querySelectorAll('main *')).filter((each) => each.checkVisibility() && "
    "each.getBoundingClientRect().right > innerWidth + 1).map((each) => each.outerHTML.slice(0, 120))"
)


@pytest.mark.parametrize("width", [375, 1280])
def test_nothing_overflows_or_complains_or_leaves(chromium, files, width):
    for name, path in files.items():
        for dark in (False, True):
            chromium.open(path, width=width, dark=dark)
            assert chromium.value(WIDTH) <= width, name
            chromium.value(OPEN_ALL)
            assert chromium.value(WIDTH) <= width and chromium.value(BEYOND) == [], name
            assert chromium.complaints() == []
            assert chromium.requests() == [path.as_uri()]


def test_dark_and_light_differ(chromium, files):
    grounds = set()
    for dark in (False, True):
        chromium.open(files["diff"], width=1280, dark=dark)
        grounds.add(chromium.value("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


def test_search_opens_what_it_finds_and_puts_back_what_it_opened(chromium, files):
    chromium.open(files["diff"], width=1280)
    type_ = (
        "((text) => { const box = document.getElementById('search'); box.value = text; "
        "box.dispatchEvent(new Event('input')); })"
    )
    shown = "Array.from(document.querySelectorAll('.layer tbody tr')).filter((row) => row.checkVisibility()).length"
    open_ = "document.querySelectorAll('details[open]').length"
    assert (chromium.value(shown), chromium.value(open_)) == (0, 0)
    chromium.value(f"{type_}('NUMPY')")
    assert chromium.value(shown) == 1
    assert chromium.value("document.getElementById('found').textContent") == "1 line matches"
    chromium.value(f"{type_}('')")
    assert (chromium.value(shown), chromium.value(open_)) == (0, 0)


def test_without_javascript_it_says_the_same_and_shows_no_dead_search(chromium, files):
    said = []
    for script in (True, False):
        chromium.open(files["diff"], width=375, script=script)
        said.append(chromium.value("document.querySelector('.card').innerText"))
        assert chromium.value("document.querySelector('.search').checkVisibility()") is script
    assert said[0] == said[1] and "too old" not in said[0].split("changed")[0]


def test_print_unfolds_what_differs(chromium, files):
    chromium.open(files["diff"], width=1280, script=False)
    chromium.call("Emulation.setEmulatedMedia", media="print")
    rows = (
        "(key) => Array.from(document.querySelectorAll(`#layer-${key} tbody tr`))"
        ".filter((row) => row.checkVisibility()).length"
    )
    try:
        assert chromium.value(f"({rows})('driver')") == 5
        assert chromium.value(f"({rows})('package')") == 0
    finally:
        chromium.call("Emulation.setEmulatedMedia", media="")
