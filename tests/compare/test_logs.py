"""Lines of any length, terminal colours and JSON records, and what they say."""

import io
import json

import pytest

from envlock.compare.logs import BLOCK, EXCERPT, LINE_LIMIT, RAW_LIMIT, blocks, excerpt, lines_of, messages

ERROR = "ImportError: /lib/libstdc++.so.6: version `GLIBCXX_3.4.30' not found (required by /x/y.so)"


def test_a_long_line_keeps_its_beginning_and_its_end():
    line = "{" + "a" * (3 * RAW_LIMIT) + ERROR + "\n"
    (kept, after) = lines_of(io.StringIO(line + "next\n"))
    assert kept.startswith("{aaa") and kept.endswith(ERROR + "\n") and after == "next\n"
    assert len(kept) <= RAW_LIMIT


@pytest.mark.parametrize("text", ["", "a", "a\n", "a\n\nb", "a\r\nb\n"])
def test_short_lines_are_what_they_are(text):
    assert list(lines_of(io.StringIO(text))) == text.splitlines(keepends=True)


@pytest.mark.parametrize(
    "line",
    [
        f"\x1b[31m{ERROR}\x1b[0m",
        f"\x1b[1;38;5;196mImportError\x1b[0m\x1b[K{ERROR[11:]}",
        f"\x1b]0;train\x07{ERROR}",
        f"\x1b]8;;file:///x\x1b\\{ERROR}",
    ],
)
def test_what_a_terminal_would_obey_is_left_out(line):
    assert list(messages(line)) == [ERROR]


@pytest.mark.parametrize("prefix", ["", "2026-11-28T10:00:00Z stderr F ", "[rank0]: "])
def test_a_json_record_says_its_text_line_by_line(prefix):
    record = json.dumps(
        {"time": "10:00", "msg": f'Traceback:\n  File "x.py"\n\x1b[31m{ERROR}\x1b[0m\n', "n": 1}
    )
    assert list(messages(prefix + record))[1:3] == ['  File "x.py"', ERROR]


def test_a_path_of_windows_is_no_record():
    line = r'Error loading "C:\new\torch\lib\fbgemm.dll"'
    assert list(messages(line)) == [line]


def test_a_message_is_bounded_and_nothing_of_the_line_is_lost():
    line = "".join(map(str, range(LINE_LIMIT)))
    pieces = list(messages(line))
    assert "".join(pieces) == line and max(map(len, pieces)) == LINE_LIMIT


@pytest.mark.parametrize(
    "line", ["plain\n", "\x1b[31mred\x1b[0m\n", '{"a": "b\\nc"}\n', "\n", "x" * 9000 + "\n"]
)
def test_blocks_number_the_lines_of_the_log(line):
    log = ["first\n"] * (BLOCK - 1) + [line, "last\n"]
    found = [each for block in blocks(log) for each in block]
    assert found[0][0] == 1 and found[-1][0] == BLOCK + 1
    assert {number for number, _ in found} == set(range(1, BLOCK + 2))


def test_an_excerpt_shows_the_error_behind_a_progress_bar():
    message = "10%|#| 1/10 " * 300 + ERROR
    assert ERROR in excerpt(message, message.index(ERROR))
    assert len(excerpt(message, 0)) == EXCERPT
    assert excerpt("  short " + ERROR, 8) == "short " + ERROR
