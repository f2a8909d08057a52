"""The rows of errors.toml and what recognises them in a line."""

import re
import time

import pytest

from envlock.matrix import load
from envlock.matrix.patterns import LINE_LIMIT, match_line

MATRIX = load()
ROWS = MATRIX.rows("errors", "error")
GROUPS = {"module", "soname", "library", "path", "version", "other", "symbol"}
RULES = {
    *"""driver-missing driver-too-old-for-cuda driver-too-old-for-gpu driver-dropped-gpu driver-kernel-user-mismatch
    kernel-module-blocked device-node-missing driver-known-bad fabric-manager-mismatch compat-libcuda-unsupported
    libcuda-stub-loaded cuda-runtime-missing cuda-library-shadowed cuda-component-mismatch cuda-majors-mixed
    cuda-ptx-too-new toolkit-framework-mismatch host-compiler-unsupported gpu-arch-not-in-build gpu-arch-ptx-only
    toolkit-gpu-unsupported gpu-hidden cudnn-shadowed nccl-shadowed cudnn-mismatch nccl-mismatch
    cudnn-sublibraries-mixed cudnn-cuda-mismatch cudnn-gpu-unsupported cudnn-known-bad nccl-known-bad
    cpu-build-installed framework-companion-mismatch extension-abi-mismatch framework-python-unsupported
    framework-cuda-mismatch framework-known-bad requirement-unmet numpy-abi known-breakage conda-pip-overlap
    package-duplicated module-overlap package-broken package-shadowed package-modified openmp-duplicated
    wheel-platform-mismatch libc-too-old libstdcxx-too-old system-library-missing cpu-feature-missing
    python-end-of-life image-requirement-unmet container-without-gpu container-toolkit-mismatch memory-lock-small
    peer-to-peer-hazard wsl-driver-conflict shared-memory-small environment-suspect nodes-differ drift
    waiver-expired""".split(),  # noqa: SIM905
}


def example(row):
    return row.get("example") or re.sub(r"\\([.()])", r"\1", row["pattern"])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["pattern"][:40])
def test_a_row_recognises_its_own_example(row):
    assert row["pattern"] in [match.row["pattern"] for match in match_line(MATRIX, f"x: {example(row)} y")]


def test_rules_and_groups_are_known():
    assert {rule for row in ROWS for rule in row.get("rules", ())} <= RULES
    assert {name for row in ROWS for name in re.compile(row["pattern"]).groupindex} <= GROUPS


def test_placeholders_are_groups_of_their_pattern_or_the_address_is_never_given():
    for row in ROWS:
        asked = {name for address in row["addresses"] for name in re.findall(r"\{(\w+)\}", address)}
        assert asked <= GROUPS
        assert any(
            "{" not in address or asked <= set(re.compile(row["pattern"]).groupindex)
            for address in row["addresses"]
        )


def test_what_the_line_names_stands_in_the_addresses():
    line = "ImportError: cannot import name 'triu' from 'scipy.linalg' (/venv/lib/scipy/linalg/__init__.py)"
    (match,) = match_line(MATRIX, line)
    assert match.addresses[0] == "package.pip.scipy"
    assert match.groups == {"symbol": "triu", "module": "scipy", "path": "/venv/lib/scipy/linalg/__init__.py"}


def test_the_most_telling_row_comes_first():
    line = "OSError: libcudart.so.11.0: cannot open shared object file: No such file or directory"
    assert match_line(MATRIX, line)[0].addresses[0] == "library.cudart"
    line = "ImportError: libtorch_cuda.so: undefined symbol: ncclGroupSimulateEnd"
    assert match_line(MATRIX, line)[0].addresses[0] == "library.nccl"


def test_a_line_without_a_known_text_matches_nothing():
    assert match_line(MATRIX, "epoch 3: loss 0.1234, accuracy 0.98, 12.5 it/s") == []


def test_what_stands_behind_the_limit_is_not_read():
    text = "CUDA driver is a stub library"
    assert match_line(MATRIX, " " * (LINE_LIMIT - len(text)) + text)
    assert match_line(MATRIX, " " * LINE_LIMIT + text) == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["pattern"][:40])
def test_a_hostile_line_takes_linear_time(row):
    pattern = re.compile(row["pattern"])
    hint = row.get("hint", row["pattern"]).split("|")[0]
    for piece in (hint, example(row), example(row)[:-1], "a", "0", ".so.", "lib", "'", "(", " ", "-_"):
        line = (piece * LINE_LIMIT)[:LINE_LIMIT]
        begin = time.process_time()
        pattern.search(line)
        assert time.process_time() - begin < 0.25, piece
