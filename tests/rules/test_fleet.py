"""nodes-differ: what must be the same in one job, how bad it is, and what belongs to a node."""

import pytest

from envlock.manifest.read import loads
from envlock.matrix.loader import load
from envlock.rules.engine import Kind, Odd, all_rules, find_rule, run, run_fleet, stack_rules
from envlock.rules.model import Evidence, Finding
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


def odd(*kinds):
    """Return what run_fleet does, for nodes of which each kind states these facts alone."""
    held = [Kind(tuple(names), Stack(loads(f'schema = "envlock/1"\n{facts}\n'))) for names, facts in kinds]
    return run_fleet(held, MATRIX)


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


TORCH = '[framework.torch]\nversion = "2.9.1+cu128"\ncuda = "12.8"\n'
GPU = '[[gpu]]\nname = "NVIDIA H100"\ncount = {}\nmig = {}\n'
UNSEEN = '[capture.unobserved]\n{} = "no"\n'


@pytest.mark.parametrize(
    ("others", "one", "said"),
    [
        ('[driver]\nkernel_module = "550.1"', '[driver]\nkernel_module = "570.1"', "n4: driver 570.1 (3 others 550.1)"),
        ('[driver]\nfabric_manager = "550.1"', '[driver]\nfabric_manager = ""\nflavor = "open"',
         "n4: no fabric manager (3 others 550.1)"),
        ('[driver]\nfabric_manager = "550.1"', "", None),
        ('[driver]\nflavor = "open"\nfabric_manager = "550.1"',
         '[driver]\nflavor = "open"\n[capture.unobserved]\n"driver.fabric_manager" = "no access"', None),
        ('[host]\nkernel = "6.8"', "", None),
        ('[[gpu]]\nname = "A"', '[[gpu]]\ncompute_capability = "9.0"', None),
        (TORCH, TORCH.replace("12.8", "13.0").replace("cu128", "cu130"), "n4: CUDA 13.0 of torch (3 others 12.8)"),
        (TORCH, '[framework.torch]\nversion = "2.9.1+cpu"\ncuda = ""', "n4: CUDA CPU build of torch (3 others 12.8)"),
        (TORCH, "", "n4: no torch (3 others 2.9.1+cu128)"),
        (TORCH, UNSEEN.format("package"), None),
        (TORCH, UNSEEN.format("framework"), None),
        ('[package.pip]\njax = { version = "0.8.2" }', '[package.pip]\njax = { version = "0.8.1" }',
         "n4: jax 0.8.1 (3 others 0.8.2)"),
        ('[package.pip]\ntensorflow = { version = "2.19.0" }', '[package.pip]\ntensorflow = { version = "2.20.0" }',
         "n4: tensorflow 2.20.0 (3 others 2.19.0)"),
        (GPU.format(8, "false"), GPU.format(8, "true"), "n4: GPU NVIDIA H100 in MIG mode (3 others NVIDIA H100)"),
        (GPU.format(4, "false"), GPU.format(2, "false") * 2, None),
        (GPU.format(4, "false"), '[[gpu]]\nname = "NVIDIA H100"', None),
        ("[[gpu]]\ncount = 1", "[[gpu]]\ncount = 2", "n4: 2 GPUs (3 others 1)"),
        ('[[gpu]]\nname = "NVIDIA L4"', "", "n4: no GPU (3 others NVIDIA L4)"),
        ('[[gpu]]\nname = "B"\n[[gpu]]\nname = "A"', '[[gpu]]\nname = "A"', "n4: GPU A (3 others A, B)"),
        ('[environ]\nNCCL_ALGO = "Ring"', '[environ]\nNCCL_ALGO = ""', 'n4: NCCL_ALGO= (3 others Ring)'),
        ('[environ]\nNCCL_ALGO = ""', '[environ]\nNCCL_ALGO = "Ring"', 'n4: NCCL_ALGO=Ring (3 others "")'),
        ('[environ]\nNCCL_ALGO = "Ring"', UNSEEN.format("environ"), None),
        ('[environ]\nUCX_TLS = "rc"', '[environ]\nUCX_TLS = "ud"', None),
        ('[environ]\nNCCL_HOSTID = "a"', '[environ]\nNCCL_HOSTID = "b"', None),
        ('[environ]\nNCCL_DEBUG_SUBSYS = "ALL"', "", None),
        ('[environ]\nNCCL_IB_HCA = "mlx5_0"', "", "n4: NCCL_IB_HCA not set (3 others mlx5_0)"),
        ('[container]\nimage = "a:1"\ndigest = "sha256:0123456789abcdef"', '[container]\nimage = "a:2"\ndigest = "sha256:1"',
         "n4: container image a:2 (sha256:1) (3 others a:1 (sha256:0123456789ab))"),
        ('[container]\ndigest = "sha256:0"', '[container]\ndigest = "sha256:1"',
         "n4: container image (sha256:1) (3 others (sha256:0))"),
    ],
)  # fmt: skip
def test_what_is_said_of_a_node_that_differs_in_one_fact(others, one, said):
    assert [each.finding.message for each in odd((OTHERS, others), (("n4",), one))][:1] == (
        [said] if said else []
    )


@pytest.mark.parametrize(
    ("others", "one", "subject"),
    [
        ('[driver]\nversion = "1"', '[driver]\nversion = "2"', "driver.version"),
        ('[driver]\nfabric_manager = "1"', '[driver]\nfabric_manager = "2"', "driver.fabric_manager"),
        (TORCH, TORCH.replace("2.9.1", "2.9.0"), "framework.torch.version"),
        (TORCH, TORCH.replace("12.8", "13.0"), "framework.torch.cuda"),
        ('[[gpu]]\nname = "A"', '[[gpu]]\nname = "B"', "gpu"),
        ("[[gpu]]\ncount = 1", "[[gpu]]\ncount = 2", "gpu.count"),
        ('[container]\nimage = "a"', '[container]\nimage = "b"', "container.image"),
        ('[environ]\nNCCL_ALGO = "Ring"', "", "environ.NCCL_ALGO"),
    ],
)
def test_the_fact_that_differs_is_blamed(others, one, subject):
    (found,) = odd((OTHERS, others), (("n4",), one))
    assert (found.finding.subject, found.finding.evidence[0].address) == (subject, subject)


def test_a_network_device_by_another_name_is_a_note_and_one_that_is_not_named_a_warning():
    named = '[environ]\nNCCL_IB_HCA = "{}"'
    (other,) = odd((OTHERS, named.format("mlx5_0")), (("n4",), named.format("mlx5_2")))
    (unset,) = odd((OTHERS, named.format("mlx5_0")), (("n4",), ""))
    assert (other.finding.severity, unset.finding.severity) == ("note", "warning")


def test_a_finding_of_a_fleet_whole():
    nccl = '[[library]]\nname = "nccl"\nversion = "{}"\nused_by = ["torch"]\n' + TORCH
    (found, _) = odd(
        (("n2", "n1", "n5"), nccl.format("2.27.5")), (("n4", "n3"), nccl.format("2.28.9")), (("n6",), "")
    )
    assert found == Odd(
        ("n3", "n4"),
        Finding(
            subject="library.nccl",
            message="n[3-4]: NCCL 2.28.9 (3 others 2.27.5); NCCL refuses a communicator across different versions",
            evidence=(
                Evidence("library.nccl", "2.27.5 on n[1-2,5]"), Evidence("library.nccl", "2.28.9 on n[3-4]"),
            ),
            source="NCCL, src/init.cc; NVIDIA/nccl issue 260",
            rule="nodes-differ",
            severity="error",
            layer="fleet",
        ),
    )  # fmt: skip
    (kernel,) = odd((("a",), '[host]\nkernel = "6.8"'), (("b",), '[host]\nkernel = "6.9"'))
    assert (kernel.names, kernel.finding.subject, kernel.finding.source) == (("b",), "host.kernel", "")


def test_two_frameworks_are_told_with_the_nccl_of_each():
    both = (
        TORCH + '[package.pip]\njax = {{ version = "0.8.2" }}\n'
        '[[library]]\nname = "nccl"\nversion = "{}"\nused_by = ["torch", "jax"]\n'
    )
    found = odd((OTHERS, both.format("2.27.5")), (("n4",), both.format("2.28.9")))
    assert [each.finding.message.partition(" (")[0] for each in found] == [
        "n4: NCCL of torch 2.28.9",
        "n4: NCCL of jax 2.28.9",
    ]


DRIVER = '[driver]\nversion = "{}"'


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((2, 1), "n3: driver 1 (2 others 0)"),
        ((4, 1, 1, 1), "n5: driver 1, n6: 2, n7: 3 (4 others 0)"),
        ((5, 1, 1, 1, 1), "n6: driver 1, n7: 2, n8: 3, 1 more with others (5 others 0)"),
        ((1, 1), "no majority: driver 0 on n1, driver 1 on n2"),
        ((3, 1, 1, 1), "no majority: driver 0 on n[1-3], driver 1 on n4, driver 2 on n5, driver 3 on n6"),
        (
            (2, 1, 2, 1, 1),
            "no majority: driver 0 on n[1-2], driver 2 on n[4-5], driver 1 on n3, driver 3 on n6, others on 1 more",
        ),
    ],
)
def test_the_largest_share_is_the_others_where_it_is_more_than_half(sizes, said):
    names = iter(f"n{number}" for number in range(1, 10))
    (found,) = odd(
        *(([next(names) for _ in range(size)], DRIVER.format(place)) for place, size in enumerate(sizes))
    )
    assert found.finding.message == said
    assert len(found.finding.evidence) == min(len(sizes), 4)


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
