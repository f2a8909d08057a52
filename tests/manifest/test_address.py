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


def test_facts_of_every_section_hold_their_plain_values():
    text = 'schema = "envlock/1"\n'
    expected = {}
    for section, key, value in (
        ("host", "kernel", "6.8.0"),
        ("driver", "cuda", "12.4"),
        ("container", "runtime", "docker"),
        ("os", "id", "debian"),
        ("python", "version", "3.12.3"),
        ("compiler", "gcc", "12.2.0"),
        ("framework.torch", "cuda", "12.4"),
        ("environ", "CUDA_HOME", "/usr/local/cuda"),
    ):
        text += f'[{section}]\n{key} = "{value}"\n'
        expected[f"{section}.{key}"] = value
    text += '[[toolkit]]\nversion = "12.4"\n[package.system]\nlibnccl2 = "2.27.3-1"\n'
    found = facts(loads(text))
    assert found.pop("toolkit")[0]["version"] == "12.4"
    assert found == {**expected, "package.system.libnccl2": "2.27.3-1"}


def test_addresses_of_names_with_dots():
    conda = (
        'schema = "envlock/1"\n[package.conda]\n"a.version" = { version = "1" }\n"a" = { version = "2" }\n'
    )
    manifest = loads(conda)
    assert get(manifest, "package.conda.a.version") == {"version": "1"}  # the longest name that exists wins
    assert get(manifest, "package.conda.a.build") is None
    assert get(manifest, "package.conda") == {"a.version": {"version": "1"}, "a": {"version": "2"}}
    dotted = loads(
        'schema = "envlock/1"\n[framework."jax.x"]\nversion = "1"\nneeds = { libc = "glibc 2.28" }\n'
    )
    assert get(dotted, "framework.jax.x.version") == "1"
    assert get(dotted, "framework.jax.x.needs.libc") == "glibc 2.28"
    assert get(dotted, "framework.jax.x") == {"version": "1", "needs": {"libc": "glibc 2.28"}}
    assert get(dotted, "requires.a.b") is None
    assert get(loads('schema = "envlock/1"\n[digest]\n"a.b" = "sha256:0"\n'), "digest.a.b") == "sha256:0"
    assert get(dotted, "library") is None
    assert get(loads('schema = "envlock/1"\n[environ]\n"A.B" = "x"\n'), "environ.A.B") == "x"


def test_replace_leaves_the_manifest_and_the_other_copies_alone():
    changed = replace(
        MANIFEST, {"library.cudnn": [{"name": "cudnn", "version": "9.5"}], "requires.a.b": ["c"]}
    )
    assert [copy.version for copy in changed.library] == ["9.5"]
    assert changed.requires == {"a.b": ("c",)}
    assert [copy.version for copy in MANIFEST.library] == ["9.1.0", "8.9.7"]
    nccl = replace(MANIFEST, {"library.nccl": [{"name": "nccl"}]})
    assert [copy.name for copy in nccl.library] == ["cudnn", "cudnn", "nccl"]


def test_a_pattern_covers_what_lies_below_its_matches():
    assert covers("package.*.torch", "package.pip.torch.version")
    assert covers("*.version", "driver.version")
    assert not covers("package.*.torch", "package.pip.torchvision")
    assert not covers("driver", "drivers.version")


def test_a_package_of_a_conda_prefix_beside():
    text = 'schema = "envlock/1"\n[conda."/opt/py3.11"]\n"ruamel.yaml" = { version = "0.18", build = "py_0" }'
    held = loads(text)
    assert facts(held) == {"conda./opt/py3.11.ruamel.yaml": {"version": "0.18", "build": "py_0"}}
    assert get(held, "conda./opt/py3.11.ruamel.yaml") == {"version": "0.18", "build": "py_0"}
    assert get(held, "conda./opt/py3.11") == {"ruamel.yaml": {"version": "0.18", "build": "py_0"}}
    assert get(held, "conda./opt/conda.zlib") is None
    without = replace(held, {"conda./opt/py3.11.ruamel.yaml": None})
    assert without.conda == {"/opt/py3.11": {}}
    assert (
        replace(without, {"conda./opt/conda.zlib": {"version": "1"}}).conda["/opt/conda"]["zlib"].version
        == "1"
    )
    assert covers("conda", "conda./opt/py3.11.ruamel.yaml")
