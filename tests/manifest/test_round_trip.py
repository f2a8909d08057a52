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


TEXT = """\
schema = "envlock/1"

[capture]
envlock = "1.2"
time = 2026-11-28T09:00:00Z
source = "live"

[capture.unobserved]
driver = "none here"
gpu = "no driver"

[digest]
image = "sha256:0"
machine = "sha256:1"

[host]
memory_gib = 503.5
iommu = false
interfaces = ["eth0", "ib0"]

[[gpu]]
name = "NVIDIA H100 80GB HBM3"
count = 8

[[gpu]]
name = "NVIDIA L4"
mig = true

[framework.torch]
version = "2.9.1+cu128"
archs = []
needs = { libc = "glibc 2.28" }

[framework."x.y"]
version = "1"

[package.pip]
"a.b" = {}
numpy = { version = "2.3.1", imports = ["numpy", "f2py"] }

[package.conda]
python = { version = "3.12", build = "h_0" }

[package.system]
libc6 = "2.39"

[requires]
torch = ["numpy", "triton==3.5.1"]

[environ]
A = "say \\"\\\\\\"\\t\\u202E"
B = ""

[lock]
ignore = ["environ.*"]

[lock.allow]
"package.pip.*" = "patch"

[[lock.waiver]]
rule = "shared-memory-small"
reason = "one worker"
until = 2027-01-31

[[lock.waiver]]
rule = "nodes-differ"
reason = "known"
"""


def test_the_whole_text_of_a_manifest():
    assert write(loads(TEXT)) == TEXT


def test_tables_by_name_are_written_in_the_order_of_their_names():
    held = loads(TEXT)
    turned = {
        "environ": dict(reversed(held.environ.items())),
        "digest": dict(reversed(held.digest.items())),
        "requires": {"b": ("a",), "a": ("b",)},
        "package": {"pip": dict(reversed(held.package.pip.items()))},
    }
    assert write(msgspec.convert(turned, Manifest)) == (
        'schema = "envlock/1"\n\n[digest]\nimage = "sha256:0"\nmachine = "sha256:1"\n\n[package.pip]\n"a.b" = {}\n'
        'numpy = { version = "2.3.1", imports = ["numpy", "f2py"] }\n\n[requires]\na = ["b"]\nb = ["a"]\n\n'
        '[environ]\nA = "say \\"\\\\\\"\\t\\u202E"\nB = ""\n'
    )


def test_what_toml_cannot_hold_is_replaced():
    held = msgspec.convert({"environ": {"NCCL_\udcff": "a\ud800b"}}, Manifest)
    assert loads(write(held)).environ == {"NCCL_\ufffd": "a\ufffdb"}
