"""Addresses find facts, cover what lies below them, and can be replaced on paper."""

from envlock.manifest.address import covers, facts, get, replace
from envlock.manifest.read import loads

MANIFEST = loads(
    """
schema = "envlock/1"
[driver]
version = "570.86.15"
[[gpu]]
name = "NVIDIA H100 80GB HBM3"
[[library]]
name = "cudnn"
version = "9.1.0"
path = "/a"
[[library]]
name = "cudnn"
version = "8.9.7"
path = "/b"
[framework.torch]
version = "2.4.0"
cuda = "12.4"
[package.pip]
numpy = { version = "1.26.4" }
[package.conda]
"ruamel.yaml" = { version = "0.18", build = "py_0" }
[environ]
LD_LIBRARY_PATH = "/b"
"""
)


def test_every_fact_has_one_address():
    assert sorted(facts(MANIFEST)) == [
        "driver.version",
        "environ.LD_LIBRARY_PATH",
        "framework.torch.cuda",
        "framework.torch.version",
        "gpu",
        "library.cudnn",
        "package.conda.ruamel.yaml",
        "package.pip.numpy",
    ]


def test_get():
    assert get(MANIFEST, "driver.version") == "570.86.15"
    assert [copy["path"] for copy in get(MANIFEST, "library.cudnn")] == ["/a", "/b"]
    assert get(MANIFEST, "package.conda.ruamel.yaml.build") == "py_0"
    assert get(MANIFEST, "package.pip.numpy") == {"version": "1.26.4"}
    assert get(MANIFEST, "package.pip.scipy") is None
    assert get(MANIFEST, "driver.version.major") is None


def test_replace_a_field_a_package_a_library_and_nothing():
    changed = replace(
        MANIFEST,
        {"package.pip.numpy.version": "2.0", "package.pip.scipy": {"version": "1"}, "driver.version": None},
    )
    assert changed.package.pip["numpy"].version == "2.0"
    assert changed.package.pip["scipy"].version == "1"
    assert changed.driver.version is None
    without = replace(
        MANIFEST, {"library.cudnn": None, "environ.LD_LIBRARY_PATH": None, "package.conda.ruamel.yaml": None}
    )
    assert without.library == () and without.environ == {} and without.package.conda == {}
    assert replace(MANIFEST, {"framework.torch.cuda": "11.8"}).framework["torch"].cuda == "11.8"
    assert (
        replace(MANIFEST, {"package.conda.ruamel.yaml.build": "py_1"}).package.conda["ruamel.yaml"].build
        == "py_1"
    )


def test_covers():
    assert covers("driver", "driver.version")
    assert covers("package.pip.*", "package.pip.numpy")
    assert covers("package.*.torch", "package.conda.torch")
    assert covers("package.pip.nvidia-*", "package.pip.nvidia-nccl-cu12.version")
    assert not covers("driver.version", "driver")
    assert not covers("package.pip.num", "package.pip.numpy")
