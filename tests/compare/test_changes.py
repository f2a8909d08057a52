"""What counts as a change, of which kind and size, and what merely follows another change."""

import pytest
from hypothesis import HealthCheck, given, settings

from envlock.compare.changes import changes
from envlock.compare.folding import fold
from envlock.manifest.read import loads
from tests.strategies import MANIFESTS

HEAD = 'schema = "envlock/1"\n[capture]\nsource = "live"\n'


def stack(text):
    return loads(HEAD + text)


@pytest.mark.parametrize(
    ("before", "after", "kind", "size"),
    [
        ('{ version = "1.26.4" }', '{ version = "2.0.2" }', "version", "major"),
        ('{ version = "1.26.4" }', '{ version = "1.27.0" }', "version", "minor"),
        ('{ version = "1.26.4" }', '{ version = "1.26.5" }', "version", "patch"),
        ('{ version = "2.4.0+cu121" }', '{ version = "2.4.0+cu124" }', "version", "build"),
        (
            '{ version = "1", source = "git+https://a/b@1" }',
            '{ version = "1", source = "git+https://a/b@2" }',
            "origin",
            "build",
        ),
        (
            '{ version = "1", digest = "sha256:a" }',
            '{ version = "1", digest = "sha256:b" }',
            "digest",
            "build",
        ),
        ('{ version = "29Aug2024" }', '{ version = "2Sep2024" }', "version", "unknown"),
    ],
)
def test_kind_and_size(before, after, kind, size):
    (change,) = changes(stack(f"[package.pip]\nx = {before}"), stack(f"[package.pip]\nx = {after}"))
    assert (change.address, change.kind, change.size) == ("package.pip.x", kind, size)


def test_another_conda_build_of_the_same_version():
    one, two = (
        stack(f'[package.conda]\npytorch = {{ version = "2.4.0", build = "{b}" }}')
        for b in ("cpu_0", "cuda_1")
    )
    assert [(c.kind, c.size) for c in changes(one, two)] == [("build", "build")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{ version = "1", installer = "pip" }', '{ version = "1", installer = "uv" }'),
        ('{ version = "1", digest = "sha256:a" }', '{ version = "1" }'),
    ],
)
def test_who_installed_it_and_a_digest_of_one_side_alone_are_no_change(before, after):
    assert changes(stack(f"[package.pip]\nx = {before}"), stack(f"[package.pip]\nx = {after}")) == []


def test_a_package_of_a_conda_prefix_beside_is_a_change_of_its_own_and_a_whole_prefix_is_one():
    one = stack('[conda."/opt/conda"]\nzlib = { version = "1.2" }\nxz = { version = "5" }')
    two = stack(
        '[conda."/opt/conda"]\nzlib = { version = "1.3" }\nxz = { version = "5" }\nab = { version = "1" }'
    )
    assert [(c.address, c.kind, c.size) for c in changes(one, two)] == [
        ("conda./opt/conda.ab", "added", ""),
        ("conda./opt/conda.zlib", "version", "minor"),
    ]
    assert [(c.address, c.kind, c.after) for c in changes(stack(""), two)] == [
        ("conda./opt/conda", "added", "3 packages")
    ]
    assert [(c.address, c.kind, c.before) for c in changes(one, stack(""))] == [
        ("conda./opt/conda", "removed", "2 packages")
    ]


def test_one_side_that_could_not_see():
    blind = loads('schema = "envlock/1"\n[capture.unobserved]\ndriver = "no driver"\n')
    assert changes(stack('[driver]\nversion = "570"'), blind) == []


def test_a_paste_that_does_not_say_is_marked():
    paste = loads('schema = "envlock/1"\n[capture]\nsource = "import"\n')
    (change,) = changes(stack('[driver]\nversion = "570"'), paste)
    assert change.one_sided
    (change,) = changes(stack('[driver]\nversion = "570"'), stack(""))
    assert not change.one_sided


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(MANIFESTS, MANIFESTS)
def test_a_manifest_never_differs_from_itself_and_a_diff_turned_round_has_the_same_addresses(one, two):
    assert changes(one, one) == []
    assert [c.address for c in changes(one, two)] == [c.address for c in changes(two, one)]


TORCH = """
[framework.torch]
version = "{torch}"
cuda = "{cuda}"
[package.pip]
torch = {{ version = "{torch}" }}
nvidia-cudnn-cu12 = {{ version = "{cudnn}" }}
nvidia-nccl-cu12 = {{ version = "{nccl}" }}
sympy = {{ version = "{sympy}" }}
tqdm = {{ version = "{tqdm}" }}
[requires]
torch = ["nvidia-cudnn-cu12=={cudnn}", "nvidia-nccl-cu12=={nccl}", "sympy=={sympy}"]
"""


def folded(one, two):
    return {c.address: c.folded_under for c in fold(changes(one, two), one, two)}


def test_wheels_and_dependencies_fold_under_the_framework_that_moved():
    one = stack(
        TORCH.format(torch="2.4.0", cuda="12.1", cudnn="9.1.0.70", nccl="2.20.5", sympy="1.12", tqdm="4.1")
    )
    two = stack(
        TORCH.format(torch="2.6.0", cuda="12.4", cudnn="9.1.0.71", nccl="2.21.5", sympy="1.13.1", tqdm="4.2")
    )
    assert folded(one, two) == {
        "framework.torch.cuda": "package.pip.torch",
        "framework.torch.version": "package.pip.torch",
        "package.pip.nvidia-cudnn-cu12": "package.pip.torch",
        "package.pip.nvidia-nccl-cu12": "package.pip.torch",
        "package.pip.sympy": "package.pip.torch",
        "package.pip.torch": "",
        "package.pip.tqdm": "",
    }


def test_a_wheel_that_moved_by_itself_is_a_root():
    one = stack(
        TORCH.format(torch="2.4.0", cuda="12.1", cudnn="9.1.0.70", nccl="2.20.5", sympy="1.12", tqdm="4.1")
    )
    two = stack(
        TORCH.format(torch="2.4.0", cuda="12.1", cudnn="9.1.0.70", nccl="2.28.3", sympy="1.12", tqdm="4.1")
    )
    assert folded(one, two) == {"package.pip.nvidia-nccl-cu12": ""}


def test_a_kernel_module_left_behind_is_news_of_its_own():
    one = stack('[driver]\nversion = "570.133.20"\nkernel_module = "570.133.20"\ncuda = "12.8"')
    two = stack('[driver]\nversion = "580.95.05"\nkernel_module = "570.133.07"\ncuda = "13.0"')
    assert folded(one, two) == {
        "driver.cuda": "driver.version",
        "driver.kernel_module": "",
        "driver.version": "",
    }
