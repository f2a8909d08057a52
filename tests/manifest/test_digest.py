"""Digests: of the canonical form, and each of its own sections alone."""

import hashlib

import pytest

from envlock.manifest.digest import digest_of, digests
from envlock.manifest.read import loads


def test_a_digest_is_that_of_json_with_sorted_keys_and_no_white_space():
    value = {"b": [1, "\u00e9"], "a": {"d": None, "c": True}}
    canonical = '{"a":{"c":true,"d":null},"b":[1,"\u00e9"]}'.encode()
    assert digest_of(value) == "sha256:" + hashlib.sha256(canonical).hexdigest()


@pytest.mark.parametrize(
    ("facts", "moved"),
    [
        ('[os]\nid = "debian"', {"image"}),
        ('[python]\nversion = "3.12.3"', {"image"}),
        ('[[toolkit]]\nversion = "12.4"', {"image"}),
        ('[compiler]\ngcc = "12.2.0"', {"image"}),
        ('[[library]]\nname = "nccl"', {"image"}),
        ('[framework.torch]\nversion = "2.9.1"', {"image"}),
        ('[package.pip]\nnumpy = { version = "2.3.1" }', {"image", "package"}),
        ('[host]\nkernel = "6.8"', {"machine"}),
        ('[driver]\nversion = "550.54.14"', {"machine"}),
        ('[[gpu]]\nname = "NVIDIA L4"', {"machine"}),
        ('[container]\nruntime = "docker"', set()),
        ('[environ]\nA = "b"', set()),
        ('[capture]\nname = "n1"', set()),
    ],
)
def test_a_digest_covers_its_sections_alone(facts, moved):
    before, after = (digests(loads(f'schema = "envlock/1"\n{each}\n')) for each in ("", facts))
    assert {name for name in before if before[name] != after[name]} == moved
    assert list(after) == ["image", "machine", "package"]
