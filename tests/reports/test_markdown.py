"""Markdown for a pull request: as a reader judged it, and with nothing from outside as markup."""

from html.parser import HTMLParser

import pytest

from envlock.reports import markdown, story
from tests.reports import support

OURS = {"details", "summary", "code"}
ITS_OWN = {
    "p",
    "h3",
    "strong",
    "ol",
    "ul",
    "li",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "br",
    "code",
    "a",
}


def render(text):
    """Render as GitHub does, but for its own additions: CommonMark with tables, links found in text, and HTML let through."""
    parser = pytest.importorskip("markdown_it", reason="markdown-it-py is not installed").MarkdownIt
    return parser("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("diff-driver.md", lambda: markdown.page(support.diff_story())),
        ("diff-nccl.md", lambda: markdown.page(support.diff_story(two="other-nccl"))),
        ("diff-none.md", lambda: markdown.page(support.diff_story(two="train-h100"))),
        ("check.md", lambda: markdown.page(support.check_story())),
        ("groups.md", lambda: markdown.groups(support.grouping())),
    ],
)
def test_as_it_was_judged(name, make):
    support.assert_golden(name, make())


def hostile_pages():
    return [*map(markdown.page, support.hostile_stories()), markdown.groups(support.hostile_grouping())]


def test_nothing_from_outside_is_markup():
    for page in hostile_pages():
        elements = Elements(render(page)).found
        assert {tag for tag, _ in elements} <= OURS | ITS_OWN
        links = [attributes["href"] for tag, attributes in elements if tag == "a"]
        assert not any("x.test" in link for link in links), links
        assert all(attributes.keys() <= {"href", "start"} for _, attributes in elements)


def test_folds_close_and_tables_keep_their_columns():
    for page in hostile_pages():
        lines = [line.strip() for line in page.splitlines()]
        assert lines.count("<details>") == lines.count("</details>") > 0
        width = None
        for line in lines:
            # Every pipe from outside is an entity, so that those which are left are ours.
            width = (width or line.count("|")) if line.startswith("|") else None
            assert width is None or line.count("|") == width, line


def test_hostile_text_reads_as_it_is():
    text = "".join(Elements(render(f"x {markdown.prose(support.EVIL[0])} y\n\n| a |\n| --- |\n"
                                   f"| {markdown.code(support.EVIL[3])} |\n")).text)  # fmt: skip
    assert "x <script>alert(1)</script> y" in text
    assert "| a | b |" in text


@pytest.mark.parametrize("text", support.EVIL)
def test_prose_and_code_are_one_inline_run_without_any_element(text):
    for written, allowed in ((markdown.prose(text), set()), (markdown.code(text), {"code"})):
        found = {tag for tag, _ in Elements(render(f"- {written}\n")).found}
        assert found <= {"ul", "li"} | allowed
        assert not any(character in written for character in "\x1b\u202e\n")


@pytest.mark.parametrize("text", ["@everyone", "see #1", "GH-2", "https://x.test", "www.x.test", "a@x.test"])
def test_what_github_would_link_is_broken(text):
    assert "&#8203;" in markdown.prose(text)


def test_a_command_can_be_copied():
    advice = (
        "install torch 2.7.1: pip install torch==2.7.1 --index-url https://download.pytorch.org/whl/cu118"
    )
    assert "`pip install torch==2.7.1 --index-url https://download.pytorch.org/whl/cu118`" in (
        markdown.with_command(advice)
    )


def test_a_comment_stays_within_what_github_takes():
    from envlock.manifest.read import loads

    def stack(version):
        packages = "\n".join(f'package-{n} = {{ version = "{version}.{n}" }}' for n in range(5000))
        return loads(f'schema = "envlock/1"\n[package.pip]\n{packages}\n')

    import envlock

    one, two = stack(1), stack(2)
    told = story.of_difference(envlock.diff(one, two), one, two)
    assert len(markdown.page(told)) < 65_536
    assert markdown.page(told, everything=True).count("package-4999") >= 1
