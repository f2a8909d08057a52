"""No text makes the reader raise anything but its own error, or take longer than its length explains."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envlock.imports import ImportReportError, read_report
from envlock.manifest.model import Manifest

REPORTS = [
    path.read_bytes().decode().partition("\n")[2]
    for path in sorted((Path(__file__).parent / "reports").glob("*.txt"))
]
LINES = sorted({line for report in REPORTS for line in report.splitlines()})


def survives(text: str) -> None:
    try:
        manifest = read_report(text)
    except ImportReportError:
        return
    # What comes out is a manifest, and text that can be written.
    msgspec.convert(manifest, Manifest)
    repr(manifest).encode()


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=400))
def test_any_text(text: str) -> None:
    survives(text)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(LINES), max_size=40))
def test_shuffled_lines(lines: list[str]) -> None:
    survives("\n".join(lines))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_spliced_reports(data: st.DataObject) -> None:
    pieces = []
    for _ in range(data.draw(st.integers(1, 4))):
        report = data.draw(st.sampled_from(REPORTS))
        start = data.draw(st.integers(0, len(report)))
        pieces.append(report[start : data.draw(st.integers(start, len(report)))])
    survives(data.draw(st.sampled_from(["", "\n", "\x00", "²", "\ud800", " : "])).join(pieces))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(REPORTS), st.lists(st.tuples(st.integers(0, 5000), st.characters()), max_size=8))
def test_broken_characters(report: str, edits: list[tuple[int, str]]) -> None:
    text = list(report)
    for at, letter in edits:
        text[at % len(text)] = letter
    survives("".join(text))


@settings(max_examples=100, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=20),
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
                        st.sampled_from(["name", "version", "channel", "build_string", "kind", "installed", "pip_version",
                                         "metadata", "environment", "virtual_pkgs", "platform", "user_agent", "direct_url",
                                         "requires_dist", "url", "vcs_info", "dir_info"]), inner, max_size=5),
                    max_leaves=30))  # fmt: skip
def test_any_json(value: object) -> None:
    survives(msgspec.json.encode(value).decode())


@pytest.mark.parametrize(
    "line",
    ["{", "[", "name:", "- `x", "NAME=x", "Copyright (c)", "a==1", "-e x", "GPU 0: x", "+---", "| a | b |", "> > > >", "`" * 200,
     "<" * 300, "a" * 500, " " * 500, "$ x", "@EXPLICIT", "---------  ---------", "'is_cuda_build': [", "Name: a", "a (1.0)",
     "a  1.0  b_0  c", "(a) " * 50, "a@" * 100, "((((", "\x1b[" + ";" * 100, "NCCL version ", "http://" + "a/t/" * 50,
     "xFormers 1.0", "CUDA SETUP: ", "OrderedDict([", "- {a: [", "x.y-1-1.", "a" + " " * 300 + "b", "1." * 300],
)  # fmt: skip
def test_repeated_lines_come_to_an_end(line: str) -> None:
    count = max(1, 150_000 // (len(line) + 1))
    # A pattern that backtracks would not come back from this within a run's time limit.
    survives("\n".join([line] * count))
    survives(line * count)
