"""A lock takes the drift and keeps everything that people wrote."""

from hypothesis import HealthCheck, given, settings

from envlock.locks.update import update
from envlock.manifest.model import to_plain
from envlock.manifest.read import loads
from envlock.manifest.write import write
from tests.strategies import MANIFESTS

LOCK = """# the team's lock
schema = "envlock/1"

[capture]
source = "live"
name = "trainer"  # our name for it

[driver]
version = "570.133.20"  # what the cluster has

[[gpu]]
name = "NVIDIA H100 80GB HBM3"  # eight of them
count = 8

[package.pip]
# numbers
numpy = { version = "2.3.5" }  # pinned: see ticket 12
scipy = { version = "1.16.3" }

# text
tokenizers = { version = "0.22.1" }

[lock]
ignore = ["package.pip.ipykernel"]  # nobody cares
"""


def updated(now):
    return update(LOCK, loads(LOCK), loads(now))


def test_only_what_moved_changes():
    now = LOCK.replace('"2.3.5"', '"2.3.6"').replace("[lock]\nignore", "[lock]\n# theirs\nignore")
    assert updated(now) == LOCK.replace('"2.3.5"', '"2.3.6"')


def test_a_new_package_stands_in_its_place_and_a_gone_one_is_gone():
    now = LOCK.replace('scipy = { version = "1.16.3" }', 'pandas = { version = "2.3.3" }')
    text = updated(now)
    assert list(loads(text).package.pip) == ["numpy", "pandas", "tokenizers"]
    assert (
        "# numbers" in text and "# pinned: see ticket 12" in text and "# text" in text and "scipy" not in text
    )


def test_what_cannot_be_seen_from_here_stays():
    now = (
        LOCK.split("[driver]", maxsplit=1)[0]
        + '[capture.unobserved]\ndriver = "none"\ngpu = "none"\n'
        + "[package.pip]"
        + LOCK.split("[package.pip]")[1]
    )
    text = updated(now)
    assert loads(text).driver.version == "570.133.20"
    assert "# what the cluster has" in text and "# eight of them" in text


def test_a_gpu_that_changed_keeps_its_comment():
    assert "count = 4" in updated(LOCK.replace("count = 8", "count = 4"))
    assert "# eight of them" in updated(LOCK.replace("count = 8", "count = 4"))


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(MANIFESTS, MANIFESTS)
def test_an_updated_lock_holds_the_facts_of_now(one, two):
    two = loads(write(two).replace("[capture.unobserved]", "[unobserved]"))  # everything is seen
    plain = to_plain(loads(update(write(one), one, two)))
    wanted = to_plain(two)
    for section in wanted.keys() - {"capture", "lock", "schema"}:
        assert plain.get(section) == wanted[section], section
    assert plain.get("lock") == to_plain(one).get("lock")
    assert plain.keys() - {"capture", "lock"} == wanted.keys() - {"capture", "lock"}
