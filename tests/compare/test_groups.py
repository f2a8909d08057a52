"""Equal machines stand together, and each group is told by what sets it apart from the majority."""

import itertools
import json

import jsonschema
import msgspec
import pytest

from envlock.compare.groups import group
from envlock.manifest.read import loads
from envlock.matrix.loader import load
from envlock.reports import groups_text
from envlock.reports.style import Style
from tests.cli.support import EXAMPLES, TOP, run

MATRIX = load()
PLAIN = Style(colour=False)


def machine(driver="580.95.05", nccl="2.27.5", extra="", capture=""):
    return loads(
        f'schema = "envlock/1"\n[capture]\n{capture}\n[driver]\nversion = "{driver}"\n'
        f'[framework.torch]\nversion = "2.9.1+cu128"\ncuda = "12.8"\n'
        f'[package.pip]\ntorch = {{ version = "2.9.1" }}\nnvidia-nccl-cu12 = {{ version = "{nccl}" }}\n'
        f'[requires]\ntorch = ["nvidia-nccl-cu12==2.27.5"]\n{extra}'
    )


def members(machines):
    return [each.members for each in group(machines, MATRIX).groups]


def test_the_majority_comes_first_and_each_other_group_says_what_is_its_own():
    machines = [(f"n{place}", machine()) for place in range(5)]
    machines += [
        ("old", machine(driver="470.256.02")),
        ("x1", machine(nccl="2.28.9")),
        ("x2", machine(nccl="2.28.9")),
    ]
    found = group(machines, MATRIX)
    assert [each.members for each in found.groups] == [("n0", "n1", "n2", "n3", "n4"), ("x1", "x2"), ("old",)]
    assert [each.reference for each in found.groups] == [True, False, False]
    assert found.has_majority and found.verdict == "problem"
    _, other, old = found.groups
    assert [(c.address, c.before, c.after) for c in old.changes] == [
        ("driver.version", "580.95.05", "470.256.02")
    ]
    assert [each.rule for each in old.findings] == ["driver-too-old-for-cuda"]
    assert [cause.address for cause in old.causes] == ["driver.version"]
    assert [each.rule for each in other.findings] == ["requirement-unmet"]
    assert [cause.address for cause in other.causes] == ["package.pip.nvidia-nccl-cu12"]


def test_the_order_of_the_files_says_nothing():
    machines = [
        ("a", machine()),
        ("b", machine(driver="470.256.02")),
        ("c", machine(nccl="2.28.9")),
        ("d", machine()),
    ]
    assert (
        len({msgspec.json.encode(group(list(order), MATRIX)) for order in itertools.permutations(machines)})
        == 1
    )


def test_among_groups_of_one_size_the_soundest_is_the_reference():
    machines = [
        ("a-old", machine(driver="470.256.02")),
        ("b-sound", machine()),
        ("c-nccl", machine(nccl="2.28.9")),
    ]
    found = group(machines, MATRIX)
    assert found.groups[0].members == ("b-sound",) and not found.has_majority


def test_when_and_under_which_name_it_was_captured_sets_nobody_apart():
    captures = ('name = "a"\ntime = 2026-01-01T00:00:00Z', 'name = "b"\nenvlock = "0.0.9"', 'source = "live"')
    assert members([(str(i), machine(capture=each)) for i, each in enumerate(captures)]) == [("0", "1", "2")]


def test_a_digest_that_is_out_of_date_joins_nobody():
    stale = '[digest]\nimage = "sha256:0"\nmachine = "sha256:0"\npackage = "sha256:0"\n'
    machines = [
        ("a", machine(extra=stale)),
        ("b", machine(nccl="2.28.9", extra=stale)),
        ("c", machine(extra=stale)),
    ]
    assert members(machines) == [("a", "c"), ("b",)]


def test_what_no_digest_covers_sets_apart_too():
    machines = [
        ("a", machine()),
        ("b", machine()),
        ("c", machine(extra='[environ]\nNCCL_P2P_DISABLE = "1"\n')),
    ]
    assert members(machines) == [("a", "b"), ("c",)]


def test_what_could_not_be_seen_is_said_and_is_no_difference():
    blind = loads(
        'schema = "envlock/1"\n[capture.unobserved]\ndriver = "no GPU here"\n[framework.torch]\n'
        'version = "2.9.1+cu128"\ncuda = "12.8"\n[package.pip]\ntorch = { version = "2.9.1" }\n'
        'nvidia-nccl-cu12 = { version = "2.27.5" }\n[requires]\ntorch = ["nvidia-nccl-cu12==2.27.5"]\n'
    )
    (only,) = group([("a", machine()), ("b", machine()), ("ci", blind)], MATRIX).groups
    assert only.members == ("a", "b", "ci")
    assert [(each.address, each.side) for each in only.unobserved] == [("driver", "ci")]


def test_a_finding_of_two_groups_is_the_own_of_neither_and_one_of_the_majority_is_the_majority_s():
    machines = [(f"n{place}", machine(nccl="2.28.9")) for place in range(3)]
    machines += [("a", machine(driver="470.256.02")), ("b", machine(driver="470.129.06"))]
    found = group(machines, MATRIX)
    assert [[each.rule for each in one.findings] for one in found.groups] == [["requirement-unmet"], [], []]
    assert found.groups[1].changes


def test_a_thousand_machines_fill_one_page():
    machines = [(f"n{place:04}", machine()) for place in range(800)]
    machines += [(f"odd{place:02}", machine(nccl=f"2.{place}")) for place in range(20)]
    page = groups_text.groups(group(machines, MATRIX), PLAIN)
    assert len(page.splitlines()) <= 60 and max(map(len, page.splitlines())) <= 160
    assert "n0000" in page and "and 792 more" in page and "13 more groups" in page


# ---- the command -------------------------------------------------------------------------------------

FILES = [EXAMPLES / f"{name}.toml" for name in ("train-h100", "old-driver", "other-nccl")]


@pytest.fixture
def five(tmp_path):
    text = FILES[0].read_text(encoding="utf-8")
    copies = []
    for name in ("node-2", "node-3"):
        (tmp_path / f"{name}.toml").write_text(
            text.replace('name = "train"', f'name = "{name}"'), encoding="utf-8"
        )
        copies.append(tmp_path / f"{name}.toml")
    return [*FILES, *copies]


def test_the_text_of_three_groups(five):
    done = run("diff", *five)
    assert (done.returncode, done.stderr) == (1, "")
    assert (
        done.stdout
        == """\
5 machines in 3 groups

1. the majority, 3 of 5: node-2, node-3, train

2. 1 machine apart: node-17
   error: driver 470.256.02 is too old for CUDA 12.8 (torch 2.9.1+cu128): it needs 525.60.13 or newer \
[driver-too-old-for-cuda]
     cause: driver.version (proven: put back, the finding is gone)
   gpu  8 x NVIDIA H100 80GB HBM3 (sm_90) -> 8 x NVIDIA A100-SXM4-80GB (sm_80)
   driver.flavor  open -> proprietary
   driver.version  580.95.05 -> 470.256.02
     and 3 that moved with it
   host.kernel  6.8.0-45-generic -> 5.15.0-91-generic

3. 1 machine apart: node-23
   warning: torch requires nvidia-nccl-cu12==2.27.5, but nvidia-nccl-cu12 2.28.9 is installed [requirement-unmet]
     cause: package.pip.nvidia-nccl-cu12 (proven: put back, the finding is gone)
   package.pip.nvidia-nccl-cu12  2.27.5 -> 2.28.9
     and 1 that moved with it
"""
    )


def test_json_fits_its_schema(five):
    done = run("diff", *five, "--json")
    report = json.loads(done.stdout)
    jsonschema.validate(
        report, json.loads((TOP / "schemas" / "report.schema.json").read_text(encoding="utf-8"))
    )
    assert [each["members"] for each in report["groups"]] == [
        ["node-2", "node-3", "train"],
        ["node-17"],
        ["node-23"],
    ]
    assert "changes" not in report and report["verdict"] == "problem"


def test_the_same_file_thrice_is_one_group_with_three_names():
    done = run("diff", *[FILES[0]] * 3)
    assert done.returncode == 0
    assert done.stdout.startswith("3 machines, all equal\n\n1. 3 machines: train (")
    assert done.stdout.rstrip().endswith("#3")


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_documents_name_every_group(five, form):
    done = run("diff", *five, "--format", form)
    assert done.returncode == 1
    assert all(name in done.stdout for name in ("node-2", "node-17", "node-23", "5 machines in 3 groups"))


@pytest.mark.parametrize("option", [("--bad", "mine"), ("--log", "x.log")])
def test_what_is_about_two_is_refused_for_more(option):
    done = run("diff", *FILES, *option)
    assert done.returncode == 2 and "about two manifests; 3 were given" in done.stderr
