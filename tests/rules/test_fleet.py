"""nodes-differ: what must be the same in one job, how bad it is, and what belongs to a node."""

import pytest

from envlock.manifest.read import loads
from envlock.matrix.loader import load
from envlock.rules.engine import Kind, all_rules, find_rule, run, run_fleet, stack_rules
from envlock.rules.stack import Stack
from tests.cli.support import run as envlock
from tests.fleet.support import node

MATRIX = load()


def findings(*kinds):
    """Run the fleet's rules over (names, facts of these nodes)."""
    held = [
        Kind(tuple(names), Stack(loads(facts if isinstance(facts, str) else node(1, **facts))))
        for names, facts in kinds
    ]
    return [(odd.finding.severity, odd.finding.message) for odd in run_fleet(held, MATRIX)]


OTHERS = ("n1", "n2", "n3")


@pytest.mark.parametrize(
    ("facts", "severity", "message"),
    [
        (
            {"nccl": "2.28.9"},
            "error",
            "n4: NCCL 2.28.9 (3 others 2.27.5); NCCL refuses a communicator across different versions",
        ),
        ({"driver": "550.54.14"}, "warning", "n4: driver 550.54.14 (3 others 580.95.05)"),
        ({"torch": "2.8.0+cu128"}, "warning", "n4: torch 2.8.0+cu128 (3 others 2.9.1+cu128)"),
        ({"gpu": "NVIDIA A100-SXM4-80GB"}, "warning", "n4: GPU NVIDIA A100-SXM4-80GB (3 others NVIDIA H100 80GB HBM3)"),
        ({"gpus": 7}, "warning", "n4: 7 GPUs (3 others 8)"),
        ({"environ": 'NCCL_ALGO = "Ring"\n'}, "warning", "n4: NCCL_ALGO=Ring (3 others not set)"),
        ({"kernel": "5.15.0-91-generic"}, "note", "n4: kernel 5.15.0-91-generic (3 others 6.8.0-45-generic)"),
        ({"ifname": "ens3"}, "note", "n4: NCCL_SOCKET_IFNAME=ens3 (3 others eth0)"),
    ],
)  # fmt: skip
def test_the_odd_node_is_named_with_what_the_others_have(facts, severity, message):
    found = findings((OTHERS, {}), (("n4",), facts))
    assert found == [(severity, message)]


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"nccl": "2.27.5+cuda12.9"},
        {"torch": "2.9.1"},
        {"environ": 'NCCL_DEBUG = "INFO"\n'},
        {"environ": 'NCCL_TOPO_FILE = "/etc/topo-n4.xml"\n'},
        {"environ": 'NCCL_DEBUG_FILE = "/tmp/n4.log"\n'},
        {"devices": "0,1"},
        {"memory": 504},
        {"numpy": "1.26.4"},
    ],
    ids=str,
)
def test_a_near_miss_says_nothing(facts):
    """The same NCCL release as another build, what is written where, and what is a node's own."""
    assert findings((OTHERS, {}), (("n4",), facts)) == []


def test_nccl_comes_first_and_one_node_alone_breaks_nothing():
    odd = {"nccl": "2.28.9", "driver": "550.54.14", "kernel": "5.15.0-91-generic"}
    words = [message.split(":")[1].split()[0] for _, message in findings((OTHERS, {}), (("n4",), odd))]
    assert words == ["NCCL", "driver", "kernel"]
    assert findings((("n4",), odd)) == []


def test_without_a_majority_nobody_is_called_odd():
    ((_, said),) = findings((("n1", "n2"), {}), (("n3", "n4"), {"driver": "550.54.14"}))
    assert said == "no majority: driver 580.95.05 on n[1-2], driver 550.54.14 on n[3-4]"


def test_a_driver_that_is_not_there_differs_and_one_that_was_not_seen_does_not():
    gone = 'schema = "envlock/1"\n[host]\nkernel = "6.8.0-45-generic"\n'
    assert ("warning", "n4: no driver (3 others 580.95.05)") in findings((OTHERS, {}), (("n4",), gone))
    blind = gone.replace(
        "[host]", '[capture.unobserved]\ndriver = "no"\ngpu = "no"\nenviron = "no"\npackage = "no"\n[host]'
    )
    assert findings((OTHERS, {}), (("n4",), blind)) == []
    pasted = gone.replace("[host]", '[capture]\nsource = "import"\n[host]')
    assert findings((OTHERS, {}), (("n4",), pasted)) == []


@pytest.mark.parametrize(
    ("one", "two", "differs"),
    [
        ('image = "a:1"\ndigest = "sha256:1"', 'image = "a:1"\ndigest = "sha256:2"', True),
        ('image = "a:1"\ndigest = "sha256:1"', 'image = "b:1"\ndigest = "sha256:1"', False),
        ('image = "a:1"', 'image = "a:2"', True),
        ('image = "a:1"\ndigest = "sha256:1"', 'image = "a:1"', False),
        ('image = "a:1"', 'runtime = "docker"', False),
    ],
)
def test_an_image_is_its_digest_where_that_is_known(one, two, differs):
    texts = [f'schema = "envlock/1"\n[container]\n{each}\n' for each in (one, two)]
    assert bool(findings((OTHERS, texts[0]), (("n4",), texts[1]))) is differs


def test_many_values_make_no_long_message():
    kinds = [(OTHERS, {})] + [((f"m{place}",), {"driver": f"550.{place}.1"}) for place in range(1, 30)]
    ((_, said),) = findings(*kinds)
    assert len(said) < 250 and "26 more" in said


def test_it_is_registered_as_the_others_are_and_judges_no_single_stack():
    rule = find_rule("nodes-differ")
    assert rule in all_rules() and rule not in stack_rules()
    assert all(word in rule.explanation for word in ("Shows itself as", "Fix:", "Source:"))
    assert "nodes-differ" not in {each.rule for each in run(loads(node(1)), MATRIX).findings}
    done = envlock("explain", "nodes-differ")
    assert done.returncode == 0 and done.stdout.startswith("nodes-differ (warning, layer fleet)\n")


def test_a_log_of_one_node_points_to_it_and_leaves_it_open(tmp_path):
    log = tmp_path / "job.log"
    log.write_text("NCCL WARN Mismatched NCCL version detected : rank 1 version 22105 rank 0 version 22602\n")
    (tmp_path / "node.toml").write_text(node(1))
    done = envlock("explain", "--log", log, tmp_path / "node.toml", "--json")
    assert "nodes-differ" in done.stdout and "envlock fleet diff" in done.stdout
