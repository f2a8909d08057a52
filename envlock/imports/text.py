"""What a paste looks like before it is read: quote marks, fences, prompts, colours, and how they come off.

The clean text is cut into blocks at everything that ends a report for certain: a code fence, an HTML
tag, a Markdown heading, a shell or Python prompt. A prompt's user and host names go with it.
"""

from __future__ import annotations

import html
import json
import re
from typing import Any, NamedTuple

LINE_LIMIT = 16 * 1024
"""Characters of a line that are read, JSON apart; LD_LIBRARY_PATH and CPU flags stay well below."""
JSON_ATTEMPTS = 32
"""Documents tried in one paste: a text of nothing but braces must not cost a reading each."""

JSON_START = re.compile(r"\s{0,200}(?:\{\s*(?:\"|\Z)|\[\s*(?:[{\"]|\Z))")
"""How a document that holds packages begins; "[pip3] numpy" and "[INFO]" do not."""


class Block(NamedTuple):
    """Lines that belong together, and the command that printed them where a prompt shows it."""

    command: str
    lines: list[str]


_ANSI = re.compile(r"\x1b(?:\[[0-9;:?]{0,64}[ -/]{0,4}[@-~]|\][^\x07\x1b]{0,512}(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f\x80-\x84\x86-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
)
_STAMP = re.compile(
    r"\d{4}-\d\d-\d\d(?:T[\d:.]{5,20}Z\s|[ T]\d\d:\d\d:\d\d[,.]\d{1,6} - [\w.]{1,64} - [A-Z]{1,10} - )"
)
"""What GitHub Actions and Python's logging put before a line."""
_FENCE = re.compile(r"\s*(?:`{3,}|~{3,})(.*)")
_TAG = re.compile(
    r"<(/?)(?:details|summary|pre|code|p|br|div|samp|blockquote|table|tbody|thead|h\d)\b[^<>]{0,200}>", re.I
)
_CELL = re.compile(r"</?(?:tr|td|th|b|strong|em|i|span|a)\b[^<>]{0,300}>", re.I)
_ENTITY = re.compile(r"&(?:[a-z]{2,6}|#\d{1,6}|#x[0-9a-f]{1,5});", re.I)
_HEADING = re.compile(r"\s{0,3}#{2,6}\s|\s*\*\*[^*]{1,200}\*\*\s*:?\s*$")
_ENVIRONMENT = r"(?:\([^()]{1,64}\)\s?){0,3}"
_PROMPT = re.compile(
    r"\s{0,8}" + _ENVIRONMENT + r"(?:"
    r"\[?[\w.+-]{1,64}@[\w.-]{1,128}[: ]?[^$#%>\s]{0,256}\s?[$#%>]"  # user@host:~/dir$  [user@host dir]$
    r"|\$|[❯➜λ»](?:\s{1,2}[~/][^\s]{0,256})?"
    r"|(?:PS )?[A-Za-z]:\\[^<>|\"?*]{0,256}>"  # Windows
    r"|>>>|In \[\d{1,6}\]:"  # Python
    r"|!(?=(?:pip|python|nvidia|nvcc|conda|uv|cat|uname|ldd|gcc|env)\b)"  # a notebook's shell line
    r")(?:\s+(.*)|(?<=[>!])(.*)|\s*)$"
)


def blocks(text: str) -> list[Block]:
    """Cut a paste into blocks of clean lines, prompts and decoration removed."""
    found: list[Block] = [Block("", [])]
    for raw in _lines(text):
        for command, line in _pieces(raw):
            if line is None:
                if found[-1].lines or found[-1].command:
                    found.append(Block(command, []))
                elif command:
                    found[-1] = Block(command, [])
            else:
                found[-1].lines.append(line)
    return [Block(block.command, _dedent(block.lines)) for block in found if any(block.lines)]


def json_end(lines: list[str], start: int) -> tuple[int, Any]:
    """Return the end (exclusive) and value of a JSON document that starts in a line; (start, None) for none.

    Documents are printed on one line, or indented with their last bracket where the first one stands.
    """
    first = lines[start]
    closing = {"{": "}", "[": "]"}.get(first.lstrip()[:1], "")
    if not closing:
        return start, None
    indent = first[: len(first) - len(first.lstrip())]
    end = start
    if not first.rstrip().endswith(closing):
        last = indent + closing
        end = next((at for at in range(start + 1, len(lines)) if lines[at].rstrip() == last), -1)
        if end < 0:
            return start, None
    try:
        value = json.loads("\n".join(lines[start : end + 1]))
    except (ValueError, RecursionError):
        return start, None
    return end + 1, value


def _lines(text: str) -> list[str]:
    if "\x1b" in text:
        text = _ANSI.sub("", text)
    return re.split(r"\r\n|[\n\r\x85\u2028\u2029]", text)


def _pieces(raw: str) -> list[tuple[str, str | None]]:
    """Give a raw line's clean lines; (command, None) stands for a cut."""
    line = _CONTROL.sub("", raw.replace("\xa0", " ").expandtabs(8)).rstrip()
    bare = line.lstrip()
    while bare.startswith(">") and not bare.startswith(">>>"):
        line = bare[1:].removeprefix(" ")
        bare = line.lstrip()
    if bare[:4].isdigit():
        line = line[: len(line) - len(bare)] + _STAMP.sub("", bare, count=1)
    if not line or line.isspace():
        return [("", "")]
    fence = _FENCE.match(line)
    if fence:
        # Some begin their paste on the fence's own line; an info string has no blank in it.
        rest = fence.group(1).strip("`~ ")
        return [("", None), *(_plain(rest) if " " in rest else [])]
    if line.endswith("```"):
        return [*_plain(line[:-3].rstrip()), ("", None)]
    if "<" in line:
        opened = closed = False
        for tag in _TAG.finditer(line):
            closed |= bool(tag.group(1))
            opened |= not tag.group(1)
        line = _CELL.sub(" ", _TAG.sub(" ", line)).rstrip()
        if opened or closed:
            cut: list[tuple[str, str | None]] = [("", None)]
            middle = _plain(_unescape(line)) if line else []
            return [*(cut if opened else []), *middle, *(cut if closed else [])]
    return _plain(_unescape(line))


def _plain(line: str) -> list[tuple[str, str | None]]:
    if _HEADING.match(line):
        return [("", None)]
    if line.count("`") % 2:
        line = line.strip("`") if line[0] == "`" or line[-1] == "`" else line
    prompt = _PROMPT.match(line) if len(line) < 2048 else None
    if prompt:
        return [((prompt.group(1) or prompt.group(2) or "").strip(), None)]
    return [("", line)]


def _unescape(line: str) -> str:
    return _ENTITY.sub(lambda found: html.unescape(found.group()), line) if "&" in line else line


def _dedent(lines: list[str]) -> list[str]:
    """Take off the indentation that all lines share (a fence inside a list item)."""
    margin = min((len(line) - len(line.lstrip(" ")) for line in lines if line), default=0)
    return [line[margin:] for line in lines] if margin else lines
