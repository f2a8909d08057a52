"""What must agree within one job, who shares a capture, and which way leads to the other ranks."""

import time

import pytest
from hypothesis import given

import envlock
from envlock.compare.groups import group
from envlock.fleet.preflight import Outcome, PreflightError, agree, place
from envlock.fleet.preflight.slurm_step import first_host
from envlock.fleet.preflight.transport import TransportError, find_transport, pauses
from envlock.manifest.model import Manifest
from envlock.manifest.read import loads
from envlock.matrix.loader import load
from envlock.reports import preflight_text
from tests.strategies import MANIFESTS


def stack(text=""):
    return loads('schema = "envlock/1"\n' + text)


def agreeing(text):
    return agree.digests(agree.sections(agree.must_agree(stack(text))))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ('[capture]\ntime = 2026-01-01T00:00:00Z\nname = "a"', '[capture]\nname = "b"'),
        ('[host]\nmemory_gib = 503\ninterfaces = ["eth0"]', '[host]\nmemory_gib = 504\ncpu = "EPYC"'),
        ('[[gpu]]\nname = "H100"\ncount = 8', '[[gpu]]\nname = "H100"\ncount = 4'),
        ('[environ]\nCUDA_VISIBLE_DEVICES = "0"', '[environ]\nCUDA_VISIBLE_DEVICES = "1"'),
        ('[environ]\nNCCL_SOCKET_IFNAME = "ib0"', '[environ]\nGLOO_SOCKET_IFNAME = "eth3"'),
        ('[container]\nvisible_devices = "0"', '[container]\nvisible_devices = "all"'),
        ('[conda."/opt/conda"]\nzlib = { version = "1" }', ""),
    ],
)
def test_what_a_healthy_job_has_is_no_difference(one, two):
    assert agreeing(one) == agreeing(two)


@pytest.mark.parametrize(
    ("one", "two", "section"),
    [
        ('[driver]\nversion = "550.54.14"', '[driver]\nversion = "550.90.07"', "driver"),
        ('[driver]\nfabric_manager = "550.54.14"', "", "driver"),
        ('[[gpu]]\nname = "H100"', '[[gpu]]\nname = "H200"', "gpu"),
        ('[host]\nkernel = "6.8.0-45"', '[host]\nkernel = "6.8.0-47"', "host"),
        ('[environ]\nNCCL_ALGO = "Ring"', "", "environ"),
        (
            '[environ]\nCUDA_HOME = "/usr/local/cuda-12.4"',
            '[environ]\nCUDA_HOME = "/usr/local/cuda"',
            "environ",
        ),
        ('[package.pip]\ntorch = "2.9"'.replace('"2.9"', '{ version = "2.9" }'), "", "package"),
        ('[container]\nimage = "a:1"', '[container]\nimage = "a:2"', "container"),
    ],
)
def test_what_must_agree_is_one(one, two, section):
    mine, theirs = agreeing(one), agreeing(two)
    assert {name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)} == {section}
    assert {len(each) for each in [*mine.values(), *theirs.values()]} == {32}


@given(MANIFESTS)
def test_a_stack_agrees_with_itself_once_it_was_sent(manifest):
    import msgspec

    agreed = agree.must_agree(manifest)
    plain = agree.sections(agreed)
    again = msgspec.convert(msgspec.json.decode(msgspec.json.encode(plain)), Manifest)
    assert agree.digests(agree.sections(again)) == agree.digests(plain)
    assert agree.must_agree(again) == again


def test_processes_share_a_capture_only_with_the_same_view():
    environ = {"PATH": "/usr/bin", "RANK": "0", "CUDA_VISIBLE_DEVICES": "0", "SLURM_PROCID": "0", "PWD": "/"}
    other = {
        "PATH": "/usr/bin",
        "RANK": "1",
        "CUDA_VISIBLE_DEVICES": "1",
        "SLURM_PROCID": "1",
        "LOCAL_RANK": "1",
    }
    assert place.place(environ) == place.place(other)
    for name in ("PATH", "LD_LIBRARY_PATH", "HOME", "SOMETHING"):
        assert place.place({**environ, name: "/elsewhere"}) != place.place(environ), name


def test_a_process_that_cannot_tell_where_it_is_stands_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(place, "BOOT", str(tmp_path / "none"))
    assert place.place({}) != place.place({})


def test_ranks_are_named_with_their_node():
    assert preflight_text.spell([9, 8, 10, 12], "node17") == "ranks 8-10, 12 on node17"
    assert preflight_text.spell([3], "node17") == "rank 3 on node17"
    assert place.node_name({"SLURMD_NODENAME": "node07"}) == "node07"


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("node07", "node07"), ("node[07-12,20],login", "node07"), ("gpu-a.x,b", "gpu-a.x"), ("r[1-2]-n3", "r1-n3"),
     ("", ""), ("[", "")],
)  # fmt: skip
def test_the_first_node_of_a_slurm_list(nodes, first):
    assert first_host(nodes) == first


def test_a_process_on_its_own_is_fine():
    assert find_transport(0, {}) is None
    # A batch script is no step: its one process has nobody to wait for.
    assert find_transport(0, {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}) is None
    assert find_transport(0, {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "x", "MASTER_PORT": "1"}) is None


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR, MASTER_PORT not set"),
        ({"RANK": "x", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}, "RANK is 'x'"),
        ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}, "set MASTER_ADDR"),
    ],
)
def test_ranks_that_cannot_be_reached_are_an_error_with_a_way_out(environ, says):
    with pytest.raises(TransportError, match=says):
        find_transport(time.monotonic(), environ)


def test_the_library_raises_or_warns(monkeypatch):
    import warnings

    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(PreflightError, match="the stacks could not be compared: WORLD_SIZE is 2"):
        envlock.preflight()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert envlock.preflight(on_difference="warn").verdict == "unknown"
    assert [each.filename for each in caught] == [__file__]
    with pytest.raises(ValueError, match="on_difference is 'explode'"):
        envlock.preflight(on_difference="explode")


def test_only_ranks_that_captured_tell_all_of_it():
    told = [Outcome("problem", "headline\n\nrest", rank, (0, 2)).told_here for rank in range(4)]
    assert told == ["headline\n\nrest", "headline", "headline\n\nrest", "headline"]


def test_a_wait_ends_at_its_moment_and_looks_at_least_once():
    assert list(pauses(time.monotonic() - 1)) == [0.0005]
    until = time.monotonic() + 0.05
    for pause in pauses(until):
        assert 0 < pause <= 0.1
        time.sleep(pause)
    assert time.monotonic() >= until


def explanation(*stacks):
    named = [(str(n), agree.must_agree(each)) for n, each in enumerate(stacks)]
    return preflight_text.explanation(
        group(named, load()), {str(n): f"node{n // 2}" for n in range(len(stacks))}
    )


def test_the_headline_names_the_odd_one_first():
    good, old = stack('[driver]\nversion = "580.95.05"'), stack('[driver]\nversion = "550.54.14"')
    headline, _, rest = explanation(good, good, old, good).partition("\n\n")
    assert headline == (
        "the stacks of this job differ: rank 2 on node1 differs from the 3 other ranks: "
        "driver.version 550.54.14 instead of 580.95.05"
    )
    assert rest.startswith("rank 2 on node1 (1 of 4 ranks):\n   driver.version  580.95.05 -> 550.54.14\n")
    assert rest.endswith("ranks 0-1 on node0, rank 3 on node1 (the majority, 3 of 4 ranks)\n")


def test_several_odd_ones_and_no_majority_are_told_too():
    good, old = stack('[driver]\nversion = "580.95.05"'), stack('[driver]\nversion = "550.54.14"')
    third = stack('[driver]\nversion = "535.54.03"')
    headline = explanation(good, old, third, good, good).split("\n")[0]
    assert headline.endswith("rank 1 on node0, rank 2 on node1 differ from the 3 other ranks")
    headline = explanation(good, old).split("\n")[0]
    assert "rank 0 on node0" in headline and "rank 1 on node0" in headline


def test_the_explanation_is_one_page_however_many_differ():
    stacks = [stack(f'[driver]\nversion = "580.{n}"') for n in range(40)]
    text = explanation(*stacks)
    assert len(text.splitlines()) < 60 and "and 31 more groups" in text


def test_the_explanation_prints_nothing_raw():
    text = explanation(stack('[driver]\nversion = "1"'), stack('[driver]\nversion = "2\\u001b[31m"'))
    assert "\x1b" not in text
