"""Cutting a manifest at its tables gives what reading the whole gives, or the whole is read."""

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envlock.errors import EnvlockError
from envlock.fleet.content import Reader, join
from envlock.fleet.store import Entry
from envlock.manifest.model import Capture, Lock, to_plain
from envlock.manifest.read import ManifestError, loads
from envlock.manifest.write import write
from tests.fleet.support import node
from tests.strategies import MANIFESTS

ANY = settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))


def entry(text):
    return Entry("node", place="node.toml", content=text.encode("utf-8", "surrogateescape"))


def whole(manifest):
    """What a fleet compares of a manifest: all but its time, what it states of itself, and its policy."""
    capture = msgspec.structs.replace(manifest.capture, time=None)
    return msgspec.structs.replace(manifest, capture=capture, digest={}, lock=Lock())


@ANY
@given(MANIFESTS)
def test_cut_and_joined_it_is_the_same_manifest(manifest):
    read = join(Reader().read(entry(write(manifest))))
    assert msgspec.structs.replace(read, capture=Capture()) == msgspec.structs.replace(
        whole(manifest), capture=Capture()
    )
    assert read.capture.unobserved == manifest.capture.unobserved


@ANY
@given(st.lists(MANIFESTS, min_size=1, max_size=4), st.data())
def test_what_was_read_before_changes_nothing(several, data):
    reader = Reader()
    for manifest in data.draw(st.permutations(several * 2)):
        form = data.draw(st.sampled_from(["toml", "json"]))
        text = write(manifest).encode() if form == "toml" else msgspec.json.encode(to_plain(manifest))
        known = reader.read(Entry("node", place="node", form=form, content=text))
        fresh = Reader().read(Entry("node", place="node", form=form, content=text))
        assert [(each.section, each.content) for each in known] == [
            (each.section, each.content) for each in fresh
        ]
        assert {part.content for part in known if part.content} == {
            part.content for part in Reader().read(entry(write(manifest))) if part.content
        }


@pytest.mark.parametrize(
    "text",
    [
        'schema = "envlock/1"\n[host]\nkernel = """\n[driver]\nversion = "1"\n"""\n',
        "schema = 'envlock/1'\n[environ]\nA = '''\n[gpu]'''\n",
        'schema = "envlock/1"\nhost.kernel = "6.8"\n[driver]\nversion = "1"\n',
        'schema = "envlock/1"\n[["library"]]\nname = "nccl"\n',
        'schema = "envlock/1"\n[python]\npath = [\n  "a",\n  "b",\n]\n[os]\nid = "x"\n',
        'schema = "envlock/1"\n[package.pip]\na = {}\n[os]\nid = "x"\n[package.system]\nb = "1"\n',
        'schema = "envlock/1"\r\n[host]\r\nkernel = "6.8"\r\n',
        '\ufeffschema = "envlock/1"\n  [host]\n  kernel = "6.8"\n',
        'schema = "envlock/1"\n[ host ]\nkernel = "6.8"\n[unheard.of]\nx = 1\n',
    ],
)
def test_other_ways_to_write_toml_are_read_as_the_whole(text):
    assert whole(join(Reader().read(entry(text)))) == whole(loads(text.removeprefix("\ufeff")))


@pytest.mark.parametrize(
    "text",
    [
        "",
        'schema = "envlock/2"\n',
        '[host]\nkernel = "6.8"\n',
        'schema = "envlock/1"\n[host]\nkernel = 6\n',
        'schema = "envlock/1"\n[host]\nkernel = "1"\n[os]\nid = "x"\n[host]\narch = "y"\n',
        'schema = "envlock/1"\n[host]\nkernel = "1\n',
        'schema = "envlock/1"\nhost.kernel = "1"\n[host]\narch = "y"\n',
        'schema = "envlock/1"\n[[os]]\nid = "x"\n',
        'schema = "envlock/1"\n[host]\nkernel = "\udcff"\n',
        'schema = "envlock/1"\n[python]\npath = [\n[host]\n]\n',
    ],
)
def test_what_is_no_manifest_is_refused_as_one_file_is_with_its_place(text):
    reader = Reader()
    reader.read(entry(node(1)))
    with pytest.raises(EnvlockError) as refused:
        reader.read(entry(text))
    try:
        loads(text.encode("utf-8", "surrogateescape").decode("utf-8"), "node.toml")
    except (ManifestError, UnicodeDecodeError) as expected:
        assert str(refused.value) == str(expected) or isinstance(expected, UnicodeDecodeError)
    assert "node.toml" in str(refused.value)


def test_a_table_that_only_begins_as_a_known_one_is_not_that_one():
    """The second node's last table is the first one's and a line more; its libraries, the first one's and one more."""
    reader = Reader()
    first = 'schema = "envlock/1"\n[[library]]\nname = "nccl"\n'
    longer = first + '[[library]]\nname = "cudnn"\n'
    reader.read(entry(first))
    assert [each.name for each in join(reader.read(entry(longer))).library] == ["nccl", "cudnn"]
    reader.read(entry(first + '[environ]\nA = "1"\n'))
    assert join(reader.read(entry(first + '[environ]\nA = "1"\nB = "2"\n'))).environ == {"A": "1", "B": "2"}


def test_equal_tables_are_parsed_once(monkeypatch):
    from envlock.fleet import content

    parsed = []
    real = content._parse
    monkeypatch.setattr(content, "_parse", lambda *given: parsed.append(given[0]) or real(*given))
    reader = Reader()
    for number in range(50):
        reader.read(entry(node(number)))
    assert {section: parsed.count(section) for section in set(parsed)} == {
        **dict.fromkeys(set(parsed), 1),
        "host": 50,
    }
    assert "digest" not in parsed and "package" in parsed
