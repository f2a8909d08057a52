"""The benchmark page is what its script writes, and a picture says what its points say."""

import re
import sys
from pathlib import Path

TOP = Path(__file__).parent.parent
sys.path.insert(0, str(TOP / "benchmarks"))

import report  # noqa: E402


def test_the_page_holds_nothing_but_what_the_script_wrote():
    text = report.PAGE.read_text(encoding="utf-8")
    parts = report.earlier(text)
    assert report.page(parts) == text
    for name, part in parts.items():
        assert name in report.PARTS
        assert re.search(r"^Measured on \d{4}-\d\d-\d\d\.$", part, re.MULTILINE), name


def test_parts_come_in_their_order_and_an_earlier_one_is_kept():
    parts = {"nodes": "## B\n\nx", "speed": "## A\n\ny"}
    assert list(report.earlier(report.page(parts))) == ["speed", "nodes"]
    assert report.earlier(report.page(parts))["nodes"].strip() == "## B\n\nx"


def test_only_what_can_be_run_is():
    assert list(report.wanted(report.argparse.Namespace(only=None, prefix=None, image=None, cases=[]))) == [
        "drifts",
        "packages",
        "layers",
        "nodes",
        "fleet",
    ]


def test_a_picture_begins_at_zero_and_says_its_figures():
    drawn = report.picture([(100, 1.0), (1000, 10.0)], "packages", "seconds")
    places = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', drawn)
    (x1, y1), (x2, y2) = [(float(x) - 60, 250 - float(y)) for x, y in places]
    # Ten times as many in ten times the time lie on a line through the corner.
    assert abs(y1 / x1 - y2 / x2) < 0.01
    assert ">10.00</text>" in drawn and ">1,000</text>" in drawn
