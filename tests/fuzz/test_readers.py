"""Each reader holds with its kept inputs and with a few thousand changed ones, always the same."""

import resource
import signal

import pytest

from tests.fuzz.corpus import FOLDER, changed, kept
from tests.fuzz.readers import READERS

SLOW = {
    "checked": 60,
    "updated": 150,
    "log": 40,
    "machine": 150,
    "layer": 300,
    "conda-lock": 300,
    "manifest-toml": 400,
}
"""Readers of which fewer inputs are tried: rules, whole machines and images take milliseconds."""
USUAL = 1000
SECONDS = 30
"""After which one input counts as one that does not end; they take milliseconds."""


def test_every_reader_has_a_corpus_and_all_of_it_is_small():
    assert sorted(READERS) == sorted(path.name for path in FOLDER.iterdir())
    assert sum(path.stat().st_size for path in FOLDER.rglob("*")) < 1_000_000


@pytest.mark.parametrize("name", READERS)
def test_reader(name):
    before = _peak_mib()
    for data in (*kept(name), *changed(name, SLOW.get(name, USUAL))):
        signal.signal(signal.SIGALRM, _does_not_end)
        signal.alarm(SECONDS)
        try:
            READERS[name](data)
        except Exception as error:
            raise AssertionError(f"{name} raised {type(error).__name__} for {data[:2000]!r}") from error
        finally:
            signal.alarm(0)
    assert _peak_mib() - before < 512


def _does_not_end(*_):
    raise TimeoutError(f"more than {SECONDS} s for one input")


def _peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
