"""Writing and reading are inverse for any manifest, and every TOML reader reads the same."""

import sys

import msgspec
import tomlkit
from hypothesis import HealthCheck, given, settings

from envlock.manifest.address import facts, get, replace
from envlock.manifest.digest import digests
from envlock.manifest.model import Manifest, to_plain
from envlock.manifest.read import loads
from envlock.manifest.write import write
from tests.strategies import MANIFESTS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ANY = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@ANY
@given(MANIFESTS)
def test_write_then_read_is_the_identity(manifest):
    assert loads(write(manifest)) == manifest


@ANY
@given(MANIFESTS)
def test_tomllib_and_tomlkit_read_the_same_from_our_text(manifest):
    text = write(manifest)
    assert tomlkit.parse(text).unwrap() == tomllib.loads(text)


@ANY
@given(MANIFESTS)
def test_no_control_character_leaves_the_writer(manifest):
    text = write(manifest)
    assert not [
        c for c in text if (ord(c) < 32 and c != "\n") or 0x7F <= ord(c) < 0xA0 or 0x202A <= ord(c) <= 0x202E
    ]


@ANY
@given(MANIFESTS)
def test_digests_do_not_depend_on_the_order_of_packages(manifest):
    plain = to_plain(manifest)
    for packages in plain.get("package", {}).values():
        for name in sorted(packages, reverse=True):
            packages[name] = packages.pop(name)
    turned = msgspec.convert(plain, Manifest)
    assert digests(turned) == digests(manifest)


@ANY
@given(MANIFESTS)
def test_replacing_every_fact_by_itself_changes_nothing(manifest):
    for address in list(facts(manifest))[:10]:
        name = address.partition(".")[2]
        if "." in name and address.partition(".")[0] in ("framework", "package"):
            continue  # names that hold dots: covered by the cases in test_address.py
        assert facts(replace(manifest, {address: get(manifest, address)})) == facts(manifest), address


def test_what_toml_cannot_hold_is_replaced():
    held = msgspec.convert({"environ": {"NCCL_\udcff": "a\ud800b"}}, Manifest)
    assert loads(write(held)).environ == {"NCCL_\ufffd": "a\ufffdb"}
