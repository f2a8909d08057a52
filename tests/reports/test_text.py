"""The report for a terminal: what a pasted report does not state is told apart from what is not there."""

from envlock import diff
from envlock.manifest.model import Capture, Driver, Host, Manifest
from envlock.reports.style import Style
from envlock.reports.text import difference

PASTED = Manifest(capture=Capture(source="import"), driver=Driver(version="570.86.15"))
SEEN = Manifest(
    capture=Capture(source="live"),
    driver=Driver(version="580.95.05"),
    host=Host(kernel="6.8.0-45-generic", shm_gib=64),
)


def shown(mine, theirs, **options):
    return difference(diff(mine, theirs), Style(colour=False), **options)


def test_what_a_paste_does_not_state_is_counted_after_what_both_sides_state():
    text = shown(PASTED, SEEN)
    assert (
        "  driver.version  570.86.15 -> 580.95.05\n  and 2 that only one side states (--all lists them)"
        in text
    )
    assert "host.kernel" not in text.partition("differences")[2]


def test_with_all_it_is_listed_as_not_stated():
    text = shown(PASTED, SEEN, everything=True)
    assert "  host.kernel  not stated -> 6.8.0-45-generic" in text


def test_between_two_captures_it_is_not_there():
    bare = Manifest(capture=Capture(source="live"), driver=Driver(version="570.86.15"))
    assert "host.kernel  not there -> 6.8.0-45-generic" in shown(bare, SEEN)
