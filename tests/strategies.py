"""Hypothesis strategies for whole manifests: any text where the format has text, names as managers spell them."""

from __future__ import annotations

import datetime

import msgspec
from hypothesis import strategies as st

from envlock.manifest import model

TEXT = st.text(max_size=30)
NAME = st.text(min_size=1, max_size=20)


def tables(kind: type, **fields: st.SearchStrategy) -> st.SearchStrategy:
    """Build a table type with any subset of its fields."""
    return st.fixed_dictionaries({}, optional=fields).map(lambda held: msgspec.convert(held, kind))


def texts(kind: type, *, required: tuple[str, ...] = (), **other: st.SearchStrategy) -> st.SearchStrategy:
    """Build a table type whose unnamed fields are text."""
    fields = {
        field.name: other.get(field.name, TEXT)
        for field in msgspec.structs.fields(kind)
        if field.name not in required
    }
    fixed = dict.fromkeys(required, NAME)
    return st.fixed_dictionaries(fixed, optional=fields).map(lambda held: msgspec.convert(held, kind))


TUPLE = st.lists(TEXT, max_size=3)
BOOL = st.booleans()
NUMBER = st.integers(min_value=-(2**40), max_value=2**40)

# TOML has whole microseconds and offsets of whole minutes.
TIMES = st.datetimes(
    min_value=datetime.datetime(1970, 1, 1),
    max_value=datetime.datetime(2100, 1, 1),
    timezones=st.just(datetime.timezone.utc),
)

CAPTURE = st.fixed_dictionaries(
    {},
    optional={
        "envlock": TEXT,
        "time": TIMES,
        "source": st.sampled_from(["live", "root", "image", "import"]),
        "name": TEXT,
        "unobserved": st.dictionaries(NAME, TEXT, max_size=3),
    },
).map(lambda held: msgspec.convert(held, model.Capture))

HOST = texts(
    model.Host, memory_gib=NUMBER, shm_gib=NUMBER | st.floats(0, 1e6), iommu=BOOL, pcie_acs=BOOL, secure_boot=BOOL,
    memlock_kib=NUMBER, interfaces=TUPLE,
)  # fmt: skip
PIP = texts(model.PipPackage, editable=BOOL, imports=TUPLE, duplicates=TUPLE, modified=TUPLE)
POLICY = st.fixed_dictionaries(
    {},
    optional={
        "ignore": TUPLE,
        "allow": st.dictionaries(NAME, TEXT, max_size=3),
        "waiver": st.lists(
            st.fixed_dictionaries(
                {"rule": TEXT, "reason": TEXT}, optional={"until": st.dates(), "address": TEXT}
            ),
            max_size=2,
        ),
    },
).map(lambda held: msgspec.convert(held, model.Lock))

MANIFESTS = st.fixed_dictionaries(
    {},
    optional={
        "capture": CAPTURE,
        "digest": st.dictionaries(NAME, TEXT, max_size=3),
        "host": HOST,
        "driver": texts(model.Driver, missing=TUPLE),
        "gpu": st.lists(texts(model.Gpu, memory_mib=NUMBER, count=NUMBER, mig=BOOL), max_size=2).map(tuple),
        "container": texts(model.Container),
        "os": texts(model.Os),
        "python": texts(model.Python, user_site=BOOL, path=TUPLE),
        "toolkit": st.lists(texts(model.Toolkit, active=BOOL), max_size=2).map(tuple),
        "compiler": texts(model.Compiler),
        "library": st.lists(texts(model.Library, required=("name",), used_by=TUPLE), max_size=3).map(tuple),
        "framework": st.dictionaries(
            NAME,
            texts(
                model.Framework, archs=TUPLE, ptx=TUPLE, cxx11_abi=BOOL, needs=st.dictionaries(NAME, TEXT, max_size=2),
                built_for=st.dictionaries(NAME, TEXT, max_size=2),
            ),
            max_size=2,
        ),
        "package": st.builds(
            model.Packages,
            pip=st.dictionaries(NAME, PIP, max_size=4),
            conda=st.dictionaries(NAME, texts(model.CondaPackage, modified=TUPLE), max_size=4),
            system=st.dictionaries(NAME, TEXT, max_size=3),
        ),
        "conda": st.dictionaries(
            NAME, st.dictionaries(NAME, texts(model.CondaPackage, modified=TUPLE), max_size=2), max_size=2
        ),
        "requires": st.dictionaries(NAME, TUPLE.map(tuple), max_size=3),
        "environ": st.dictionaries(NAME, TEXT, max_size=3),
        "lock": POLICY,
    },
).map(lambda held: model.Manifest(**held))  # fmt: skip
