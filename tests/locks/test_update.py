"""A lock takes the drift and keeps everything that people wrote."""

import pytest
from hypothesis import HealthCheck, given, settings

from envlock.locks.update import UpdateError, update
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


def test_a_conda_prefix_beside_comes_and_moves():
    lines = '[conda."/opt/conda"]\nxz = { version = "5" } # ours\nzlib = { version = "1" }\n'
    added = updated(LOCK.replace("[lock]", f"{lines}\n[lock]"))
    assert '[conda."/opt/conda"]\nxz = ' in added and loads(added).conda["/opt/conda"]["zlib"].version == "1"
    held = f"{LOCK}\n{lines}"
    now = held.replace('zlib = { version = "1" }', 'zlib = { version = "2" }')
    assert update(held, loads(held), loads(now)) == now


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


HEAD = 'schema = "envlock/1"\n'


def test_a_lock_that_matches_stays_byte_for_byte():
    for text in (
        LOCK,
        LOCK.replace('name = "trainer"  # our name for it\n', ""),
        HEAD + "[driver]\nversion = '1'",
    ):
        assert update(text, loads(text), loads(text)) == text


def test_line_ends_stay_as_they_are():
    text = LOCK.replace("\n", "\r\n")
    now = loads(LOCK.replace('"2.3.5"', '"2.3.6"') + '[environ]\nNCCL_DEBUG = "INFO"\n')
    result = update(text, loads(text), now)
    assert "# pinned: see ticket 12\r\n" in result and "NCCL_DEBUG" in result
    assert "\n" not in result.replace("\r\n", "")


def test_what_is_no_part_of_a_manifest_stays():
    text = 'team = "ml"  # ours\n' + LOCK + "\n[tool.release]\nowner = 'us'  # theirs\n"
    result = update(text, loads(text), loads(HEAD))
    assert 'team = "ml"  # ours' in result and "owner = 'us'  # theirs" in result
    assert "numpy" not in result and "trainer" in result


def test_comments_stay_with_their_library_when_another_comes_or_goes():
    text = HEAD + (
        '[[library]]\nname = "cublas"\nversion = "12.4"  # of blas\n\n'
        '[[library]]\nname = "cudnn"\nversion = "9.1"  # of cudnn\n'
        '[lock]\nignore = ["host"]\n'
        '[[library]]\nname = "nccl"\nversion = "2.20"  # of nccl\n'
    )
    for names in ("cudnn nccl", "cublas cudnn nccl openmp", "cudart cudnn nccl", "nccl"):
        now = HEAD + "".join(f'[[library]]\nname = "{name}"\nversion = "99"\n' for name in names.split())
        result = update(text, loads(text), loads(now))
        assert [each.name for each in loads(result).library] == names.split()
        for name in {"cudnn", "nccl"} & set(names.split()):
            assert f'name = "{name}"\nversion = "99"  # of {name}\n' in result
        assert loads(result).lock.ignore == ("host",)


@pytest.mark.parametrize(
    "text",
    [
        'framework.torch.version = "2.0"\nlock.ignore = ["host"]\n',
        'package.pip.numpy.version = "1.0"\nlock.allow."package.pip.*" = "minor"\n',
    ],
)
def test_a_layout_that_cannot_be_edited_is_refused_and_never_loses_the_policy(text):
    text = HEAD + text
    now = loads(
        HEAD + '[framework.torch]\nversion = "2.1"\nneeds = { libc = "glibc 2.28" }\n[environ]\nA = "b"\n'
    )
    try:
        result = loads(update(text, loads(text), now))
    except UpdateError as error:
        assert "dotted keys" in str(error)
    else:
        assert result.lock == loads(text).lock and result.environ == {"A": "b"}
