"""A probe's document becomes a manifest: markers evaluated, one spelling, stable order."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from envlock.manifest.assemble import ObservationError, assemble
from envlock.manifest.model import Capture
from envlock.manifest.read import loads
from envlock.manifest.write import write

LINUX = {
    "python_version": "3.12", "python_full_version": "3.12.3", "sys_platform": "linux", "platform_system": "Linux",
    "os_name": "posix", "platform_machine": "x86_64",
    "implementation_name": "cpython", "platform_python_implementation": "CPython",
    "implementation_version": "3.12.3", "platform_release": "", "platform_version": "",
}  # fmt: skip


def document(**parts):
    return {
        "schema": "envlock-observation/1",
        "source": "live",
        "facts": {},
        "unobserved": {},
        "markers": LINUX,
        **parts,
    }


def requires(*lines):
    found = assemble(document(requires_dist={"x": list(lines)}), version="1").requires
    return list(found.get("x", ()))


@pytest.mark.parametrize(
    ("line", "spelled"),
    [
        ("Typing_Extensions (>=4.0)", "typing-extensions>=4.0"),
        ("numpy >=1.21, <3", "numpy<3,>=1.21"),
        ("uvicorn[standard, http] ==0.3.*", "uvicorn[http,standard]==0.3.*"),
        ('tomli; python_version < "3.11"', None),
        (
            'nvidia-cudnn-cu12==9.1.0.70; platform_system == "Linux" and platform_machine == "x86_64"',
            "nvidia-cudnn-cu12==9.1.0.70",
        ),
        ('pytest>=7; extra == "dev"', None),
        ("pytest>=7; extra == 'dev' or python_version > '3'", "pytest>=7"),
        ('a; sys_platform == "win32" or (extra == "x" and os_name == "posix")', None),
        ("pip @ https://user:secret@host/pip.zip", "pip @ https://***@host/pip.zip"),
        ("a ( >= 1.0 )", "a>=1.0"),
        ("a[y,x]@ https://host/a.zip ; python_version in '3.12'", "a[x,y] @ https://host/a.zip"),
        ("a @ https://host/a.zip ; python_version in '2.7'", None),
        ("not a requirement !!", None),
        ('numpy; no_such_variable == "1"', None),
    ],
)
def test_a_requirement_in_the_manifests_spelling(line, spelled):
    assert requires(line) == ([spelled] if spelled else [])


NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?", fullmatch=True)
VERSIONS = st.from_regex(r"[0-9]{1,2}(\.[0-9]{1,2}){0,2}", fullmatch=True)
CLAUSES = st.lists(
    st.tuples(st.sampled_from(["==", ">=", "<", "!=", "<="]), VERSIONS).map("".join), max_size=3, unique=True
)
MARKERS = st.sampled_from(
    [
        "",
        "; python_version >= '3.8'",
        "; sys_platform == 'win32'",
        "; extra == 'x'",
        "; extra == 'x' or os_name == 'posix'",
    ]
)


@given(NAMES, CLAUSES, MARKERS)
def test_the_short_way_says_what_packaging_says(name, clauses, marker):
    line = f"{name} {','.join(clauses)}{marker}"
    requirement = Requirement(line)
    applies = requirement.marker is None or requirement.marker.evaluate({**LINUX, "extra": ""})
    found = [Requirement(each) for each in requires(line)]
    assert [(each.name, each.specifier) for each in found] == (
        [(canonicalize_name(requirement.name), requirement.specifier)] if applies else []
    )


def test_bytes_that_are_not_text_do_not_stop_a_capture():
    facts = {"environ": {"LD_LIBRARY_PATH": "/caf\udce9"}, "python": {"path": ["/x\udcff"]}}
    manifest = assemble(document(facts=facts), version="1")
    assert loads(write(manifest)) == manifest


def test_order_is_by_name_whatever_the_probe_said_first():
    facts = {
        "package": {"pip": {"b": {"version": "1"}, "a": {"version": "1"}}},
        "library": [
            {"name": "nccl", "path": "/b"},
            {"name": "cudart", "path": "/a"},
            {"name": "nccl", "path": "/a"},
            {"name": "nccl"},
        ],
        "framework": {"torch": {}, "jax": {}},
        "environ": {"B": "", "A": ""},
    }
    manifest = assemble(document(facts=facts), version="1")
    assert list(manifest.package.pip) == ["a", "b"]
    assert (list(manifest.framework), list(manifest.environ)) == (["jax", "torch"], ["A", "B"])
    assert [(each.name, each.path) for each in manifest.library] == [
        ("cudart", "/a"),
        ("nccl", None),
        ("nccl", "/a"),
        ("nccl", "/b"),
    ]


@pytest.mark.parametrize(
    "wrong", [{}, {"schema": "other/1"}, document(facts={"driver": {"version": 1}}), document(source="guess")]
)
def test_what_is_not_a_probes_output_is_refused(wrong):
    with pytest.raises(ObservationError, match="not a probe's output"):
        assemble(wrong, version="1")


TABLES = "not a probe's output: facts, unobserved, requires_dist, markers must be tables"
LISTS = "not a probe's output: a list or table is expected where there is none"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([], 'not a probe\'s output: expected "schema": "envlock-observation/1"'),
        (document(facts=[]), TABLES),
        (document(unobserved=[]), TABLES),
        (document(requires_dist=[]), TABLES),
        (document(markers=[]), TABLES),
        (document(facts={"package": []}), LISTS),
        (document(facts={"library": [{}]}), LISTS),
    ],
)  # fmt: skip
def test_what_is_expected_is_said(wrong, said):
    with pytest.raises(ObservationError) as refused:
        assemble(wrong, version="1")
    assert str(refused.value) == said


def test_a_value_of_another_type_is_said_with_its_place():
    with pytest.raises(
        ObservationError, match=r"\Anot a probe's output: Expected .* - at `\$\.driver\.version`\Z"
    ):
        assemble(document(facts={"driver": {"version": 1}}), version="1")


def test_the_schema_is_the_manifests_own():
    assert assemble(document(facts={"schema": "other/1"}), version="1").schema == "envlock/1"


def test_what_an_extra_asks_for_is_left_out_and_what_follows_is_not():
    assert requires('a; extra == "x"', "b", "B", 'c; extra == "y"') == ["b"]


def test_how_and_when_it_was_seen():
    time = datetime.datetime(2026, 11, 28, 9, 0, tzinfo=datetime.timezone.utc)
    seen = assemble(document(unobserved={"gpu": "b", "driver": "a"}), version="1.2", time=time, name="node1")
    assert seen.capture == Capture(
        envlock="1.2", time=time, source="live", name="node1", unobserved={"driver": "a", "gpu": "b"}
    )
    assert list(seen.capture.unobserved) == ["driver", "gpu"]
    assert assemble(document(source=None), version="1.2").capture == Capture(envlock="1.2")


@pytest.mark.parametrize(
    "parts",
    [
        {"markers": {"python_version": 3}, "requires_dist": {"x": ['a; python_version < "3"']}},
        {"requires_dist": {"x": [["a"]]}},
        {"requires_dist": {"x": None}},
        {"facts": {"library": 3}},
        {"facts": {"library": [{"path": "/x"}]}},
        {"facts": {"package": {"pip": []}}},
        {"facts": {"framework": "torch"}},
        {"unobserved": {"driver": {}}},
        {"source": []},
    ],
)
def test_a_document_of_other_types_is_an_error_and_no_crash(parts):
    with pytest.raises(ObservationError, match="not a probe's output"):
        assemble(document(**parts), version="1")


def test_a_document_that_is_nested_too_deeply_is_an_error_and_no_crash():
    nested: list = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(ObservationError, match=r"\Anot a probe's output: nested too deeply\Z"):
        assemble(document(facts={"gpu": nested}), version="1")


def test_bytes_that_are_not_utf_8_anywhere_give_a_manifest_that_can_be_read():
    manifest = assemble(
        document(facts={"environ": {"NCCL_\udcff": "\udcfe"}}, unobserved={"gpu": "\udcfd"}),
        version="1",
        name="\udcfc",
    )
    assert loads(write(manifest)) == manifest


@pytest.mark.parametrize(
    "line", [f'a; python_version < "{"9" * 1900}"', f'a; python_version < "{"9" * 5000}"', f"a<{'9' * 5000}"]
)
def test_a_marker_or_bound_of_thousands_of_digits_is_no_crash(line):
    requires(line)
