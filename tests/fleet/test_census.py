"""Nodes are sorted into kinds by what they hold, whatever their order; what is a node's own sets nobody apart."""

import json
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envlock.compare.nodes import compare_nodes
from envlock.fleet import census
from envlock.fleet.census import take
from envlock.fleet.store import Entry, entries
from envlock.manifest.model import to_plain
from envlock.manifest.read import loads
from envlock.matrix.loader import load
from tests.fleet.support import node, write

MATRIX = load()


def entry(name, text):
    return Entry(name, place=f"{name}.toml", content=text.encode())


def kinds(texts):
    """Return which nodes are equal, of texts by node's name."""
    return sorted(tuple(kind.members) for kind in take([entry(*each) for each in texts.items()]).kinds)


def fleet(count, odd=None, **every):
    """Return texts of nodes by name; ``every`` holds functions of the number."""
    return {
        f"n{number:02}": node(
            number, **{key: value(number) for key, value in every.items()}, **(odd or {}).get(number, {})
        )
        for number in range(1, count + 1)
    }


VARIANTS = st.lists(
    st.sampled_from([{}, {"driver": "550.54.14"}, {"nccl": "2.28.9"}, {"numpy": "1.26.4"}, {"ifname": "ens3"},
                     {"environ": 'NCCL_IB_DISABLE = "1"\n'}, {"memory": 504}, {"devices": "0"}]),
    min_size=1, max_size=14,
)  # fmt: skip


@settings(deadline=None, max_examples=25)
@given(VARIANTS, st.randoms(use_true_random=False))
def test_it_is_a_partition_and_the_order_of_the_nodes_has_no_influence(variants, chance):
    given_nodes = [entry(f"n{place:02}", node(place, **facts)) for place, facts in enumerate(variants)]
    shuffled = chance.sample(given_nodes, len(given_nodes))
    one, two = take(given_nodes), take(shuffled)
    assert one == two
    members = [name for kind in one.kinds for name in kind.members]
    assert sorted(members) == sorted(each.node for each in given_nodes)
    comparison = compare_nodes(one.kinds, MATRIX)
    assert comparison == compare_nodes(two.kinds[::-1], MATRIX)
    grouped = [name for group in comparison.groups for name in group.members]
    assert sorted(grouped) == sorted(members)


@pytest.mark.parametrize(
    "every",
    [
        {"devices": lambda number: ",".join(map(str, range(number % 4 + 1)))},
        {"memory": lambda number: 500 + number % 5},
        {"environ": lambda number: f'TMPDIR = "/scratch/n{number}"\nSLURM_NODEID = "{number}"\n'},
        {"environ": lambda number: f'NCCL_DEBUG_FILE = "/tmp/n{number}.log"\nNCCL_HOSTID = "{number}"\n'},
        {"environ": lambda number: f'HF_HOME = "/local/{number}/hf"\n'},
    ],
)
def test_what_belongs_to_a_node_sets_nobody_apart(every):
    assert len(kinds(fleet(9, **every))) == 1


@pytest.mark.parametrize(
    "every",
    [
        {"devices": lambda number: "-1" if number == 7 else "0,1"},
        {"memory": lambda number: 252 if number == 7 else 503},
        {"environ": lambda number: f'LD_LIBRARY_PATH = "/x/{number}"\n'},
        {"environ": lambda number: f'NCCL_ALGO = "{number}"\n'},
        {"driver": lambda number: f"580.{number}.1"},
    ],
    ids=["hidden GPUs", "half the memory", "search path", "NCCL variable", "driver"],
)
def test_what_the_job_rests_on_does_even_where_every_node_differs(every):
    assert len(kinds(fleet(9, **every))) > 1


def test_a_variable_of_few_values_is_no_node_s_own():
    """Two of nine differ in the same way: that is news; and among few nodes nothing can be told from its variety."""
    assert (
        len(
            kinds(
                fleet(
                    9, {3: {"environ": 'OMP_NUM_THREADS = "1"\n'}, 5: {"environ": 'OMP_NUM_THREADS = "1"\n'}}
                )
            )
        )
        == 2
    )
    assert len(kinds(fleet(4, environ=lambda number: f'OMP_NUM_THREADS = "{number}"\n'))) == 4


def test_what_was_not_compared_is_said():
    found = take([entry(*each) for each in fleet(9, environ=lambda n: f'TMPDIR = "/scratch/n{n}"\n').items()])
    assert found.own == ("environ.TMPDIR",)
    kept = take(
        [entry(*each) for each in fleet(9, environ=lambda n: f'TMPDIR = "/scratch/n{n}"\n').items()],
        keeps=lambda address: address == "environ.TMPDIR",
    )
    assert len(kept.kinds) == 9 and kept.own == ()


def test_an_interface_counts_where_nccl_is_told_to_use_it():
    """One node of nine lacks eth0, which all are told to use: it is named, with what it has."""
    texts = fleet(9)
    texts["n05"] = texts["n05"].replace('["eth0", "ib0", "veth0005"]', '["eno1", "ib0", "veth0005"]')
    found = take([entry(*each) for each in texts.items()])
    first, *_ = compare_nodes(found.kinds, MATRIX).oddities
    assert first.nodes == ("n05",) and first.severity == "error"
    assert first.finding.message.startswith("n05: ") and "eno1" in first.finding.message
    assert first.cause is not None and first.cause.address == "host.interfaces"


def test_a_digest_that_lies_joins_nobody_and_parts_nobody():
    texts = {
        name: text.replace("[host]", f'[digest]\nimage = "sha256:{name}"\n\n[host]')
        for name, text in fleet(4).items()
    }
    assert len(kinds(texts)) == 1
    same = {
        name: node(1, nccl="2.28.9" if name == "b" else "2.27.5").replace(
            "[host]", '[digest]\nimage = "sha256:0"\n\n[host]'
        )
        for name in "abc"
    }
    assert kinds(same) == [("a", "c"), ("b",)]


def test_toml_and_json_of_one_stack_are_equal(tmp_path):
    import msgspec

    from envlock.manifest.model import to_plain
    from envlock.manifest.read import loads

    lines = [{"schema": "envlock-fleet/1", "engine": "ssh", "asked": ["a", "b", "c"]}]
    lines += [{"node": name, "manifest": msgspec.to_builtins(to_plain(loads(node(1))))} for name in "ab"]
    lines += [{"node": "c", "failed": "no route to host"}]
    (tmp_path / "fleet.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = take(entries(str(tmp_path / "fleet.jsonl")))
    assert [kind.members for kind in found.kinds] == [["a", "b"]] and found.failed == {
        "c": "no route to host"
    }
    assert len(take([*entries(str(tmp_path / "fleet.jsonl")), entry("d", node(1))]).kinds) == 1


def test_a_manifest_that_cannot_be_read_is_a_line_and_the_others_still_count(tmp_path):
    write(tmp_path, 5)
    (tmp_path / "node002.toml").write_text("[[[")
    (tmp_path / "node003.toml").write_bytes(b"\xff\xfe")
    (tmp_path / "node004.toml").unlink()
    (tmp_path / "node004.toml").symlink_to("/dev/zero")
    found = take(entries(str(tmp_path)))
    assert [kind.members for kind in found.kinds] == [["node001", "node005"]]
    assert list(found.failed) == ["node002", "node003", "node004"]
    assert "node002.toml:1: not TOML" in found.failed["node002"]


def test_so_many_kinds_that_no_one_would_read_them_are_named_and_not_compared(monkeypatch):
    monkeypatch.setattr(census, "KINDS_COMPARED", 3)
    texts = fleet(6, driver=lambda number: f"580.{number}.1")
    order = list(texts.items())
    random.Random(1).shuffle(order)
    found = take([entry(*each) for each in order])
    assert [kind.members for kind in found.kinds] == [["n01"], ["n02"], ["n03"]]
    assert found.uncompared == ("n04", "n05", "n06") and found.nodes == 6
    result = compare_nodes(found.kinds, MATRIX, uncompared=found.uncompared)
    assert result.verdict == "problem" and result.nodes == 6


def test_compare_is_asked_of_kinds_and_not_of_nodes(monkeypatch):
    from envlock.compare import groups

    asked = []
    real = groups.compare
    monkeypatch.setattr(groups, "compare", lambda *given, **more: asked.append(1) or real(*given, **more))
    found = take(
        [entry(*each) for each in fleet(60, {7: {"driver": "550.54.14"}, 9: {"nccl": "2.28.9"}}).items()]
    )
    compare_nodes(found.kinds, MATRIX)
    assert len(asked) == 2


def test_the_odd_nodes_may_be_those_of_the_largest_group():
    """Three kinds share a driver and differ in their kernels; the fourth is the largest and has another driver."""
    texts = {f"big{number}": node(number, driver="550.54.14") for number in range(4)}
    texts |= {
        f"{kernel}{number}": node(number, kernel=f"6.8.0-{kernel}") for kernel in "abc" for number in range(3)
    }
    result = compare_nodes(take([entry(*each) for each in texts.items()]).kinds, MATRIX)
    assert result.groups[0].members[0] == "big0"
    driver = next(each for each in result.oddities if each.finding.subject == "driver.version")
    assert driver.nodes == ("big0", "big1", "big2", "big3")
    assert driver.finding.message == "big[0-3]: driver 550.54.14 (9 others 580.95.05)"


def local(number, folder="/local/node{}/venv", **facts):
    """Return a node whose environment lies on a disk of its own."""
    place = folder.format(number)
    python = f'executable = "{place}/bin/python"\nprefix = "{place}"\n'
    text = node(number, environ=f'VIRTUAL_ENV = "{place}"\n', **facts).replace("/opt/venv", place)
    return text.replace('abi = "cp311"\n', f'abi = "cp311"\n{python}')


def as_line(text):
    return msgspec.json.encode(to_plain(loads(text)))


@pytest.mark.parametrize("form", ["toml", "json"])
def test_an_environment_at_each_node_s_own_place_sets_nobody_apart(form):
    def made(name, text):
        content = text.encode() if form == "toml" else as_line(text)
        return Entry(name, place=name, form=form, content=content)

    nodes = [made(f"n{number:02}", local(number)) for number in range(1, 13)]
    found = take([*nodes, made("n13", local(13, nccl="2.28.9"))])
    assert [len(kind.members) for kind in found.kinds] == [12, 1]
    assert set(found.own) == {"python.executable", "python.prefix"}
    # What stands for all of them is one node as it is.
    assert found.kinds[0].manifest.library[0].path.startswith("/local/node1/venv/lib/")
    assert found.kinds[0].manifest.environ["VIRTUAL_ENV"] == "/local/node1/venv"
    # Elsewhere on one node alone, it is a difference: told once, of the prefix, and of the copy that is used.
    apart = take([*(made(f"n{n}", local(1)) for n in range(9)), made("odd", local(2))])
    assert [kind.members for kind in apart.kinds][1] == ["odd"] and apart.own == ()


def test_a_library_that_lies_elsewhere_on_one_node_is_still_seen():
    texts = {f"n{number:02}": local(number) for number in range(1, 13)}
    texts["n05"] = texts["n05"].replace('path = "/local/node5/venv/lib', 'path = "/usr/local/lib')
    found = take([entry(*each) for each in texts.items()])
    assert [kind.members for kind in found.kinds][1:] == [["n05"]]
