"""Node names are folded as Slurm folds them, and nothing is lost or made up on the way."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envlock.manifest.node_names import fold


def expand(text):
    """Unfold a host list, by a reading of its own."""
    names = []
    for part in re.findall(r"[^,\[]*(?:\[[^\]]*\])?[^,\[]*", text):
        if not part:
            continue
        found = re.fullmatch(r"([^\[]*)\[([^\]]*)\]([^\[]*)", part)
        if not found:
            names.append(part)
            continue
        for piece in found[2].split(","):
            first, _, last = piece.partition("-")
            names += [
                f"{found[1]}{number:0{len(first)}}{found[3]}"
                for number in range(int(first), int(last or first) + 1)
            ]
    return names


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        (["node001", "node002", "node003", "node040"], "node[001-003,040]"),
        (["node17"], "node17"),
        (["n9", "n10", "n11", "n8"], "n[8-11]"),
        (["n08", "n09", "n10"], "n[08-10]"),
        (["n1", "n01"], "n[1,01]"),
        (["n75", "n076"], "n[75,076]"),
        (["n099", "n100", "n101"], "n[099-101]"),
        (["n99", "n100", "n998", "n999", "n1000"], "n[99-100,998-1000]"),
        (["a1-ib", "a2-ib", "b7", "login"], "a[1-2]-ib,b7,login"),
        (["rack1-node3", "rack1-node4", "rack2-node3"], "rack1-node[3-4],rack2-node3"),
        ([], ""),
    ],
)
def test_as_scontrol_show_hostlist_does(names, folded):
    assert fold(names) == folded


def test_beyond_some_ranges_the_rest_is_counted():
    names = [*(f"n{number}" for number in (9, 10, 12)), "m1", "x1", "x2"]
    assert fold(names) == "m1,n[9-10,12],x[1-2]"
    assert fold(names, 4) == "m1,n[9-10,12],x[1-2]"
    assert fold(names, 3) == "m1,n[9-10,12] and 2 more"
    assert fold([f"n{number}" for number in range(1, 4000, 2)], 1) == "n1 and 1,999 more"


NAMES = st.sets(
    st.builds(
        lambda prefix, number, width, suffix: f"{prefix}{number:0{width}}{suffix}",
        st.sampled_from(["n", "node-", "gpu", "r1n"]),
        st.integers(0, 120),
        st.integers(1, 4),
        st.sampled_from(["", "-ib", ".hpc"]),
    )
    | st.sampled_from(["login", "head", "dgx"]),
    max_size=60,
)


@settings(deadline=None, max_examples=500)
@given(NAMES)
def test_unfolded_it_is_the_same_names(names):
    unfolded = expand(fold(names))
    assert sorted(unfolded) == sorted(names)


@settings(deadline=None, max_examples=500)
@given(NAMES, st.integers(1, 5))
def test_what_is_not_named_is_counted(names, parts):
    said = fold(names, parts)
    shown, _, more = said.partition(" and ")
    left = int(more.split()[0].replace(",", "")) if more else 0
    assert len(expand(shown)) + left == len(names)
    assert set(expand(shown)) <= names
