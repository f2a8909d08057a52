"""GPU code in libraries: laid out by hand as nvcc does, in real wheels, and through nvcc itself where it is."""

import random
import shutil
import struct
import subprocess
import time

import pytest

from envlock.probe.elf import ElfError
from envlock.probe.fatbin import arch_key, read_gpu_code, supported
from tests.elf_support import make_library, needs_gcc

PTX, CUBIN = 1, 2


def entry(kind: int, arch: int, payload: int = 40, flags: int = 0x2011, header: int = 64) -> bytes:
    """One entry as nvcc 12.8 writes it; 0x2000 in the flags says that the payload is compressed."""
    head = (
        struct.pack("<HHIQ", kind, 0x0101, header, payload) + bytes(12) + struct.pack("<I", arch) + bytes(8)
    )
    return (head + struct.pack("<Q", flags)).ljust(header, b"\0") + b"\xab" * payload


def fat_binary(*entries: bytes) -> bytes:
    body = b"".join(entries)
    whole = struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body
    return whole + bytes(-len(whole) % 8)


def with_code(path, code: bytes, section: str = ".nv_fatbin"):
    """A library with a section of that content, by the assembler as nvcc's own is."""
    blob = path.with_suffix(".bin")
    blob.write_bytes(code)
    source = f'__asm__(".section {section},\\"a\\"\\n.incbin \\"{blob}\\"\\n.text");'
    return make_library(path, source=source)


def counted(path):
    with path.open("rb") as file:
        return read_gpu_code(file)


@needs_gcc
def test_cubins_and_ptx_are_counted_by_architecture(tmp_path):
    one = fat_binary(
        entry(CUBIN, 80), entry(CUBIN, 90, 13), entry(CUBIN, 120, flags=0x1002011, header=96), entry(PTX, 90)
    )
    two = fat_binary(entry(CUBIN, 80), entry(CUBIN, 90, flags=0x102011), entry(CUBIN, 100, flags=0x1202011))
    code = counted(with_code(tmp_path / "a.so", one + two))
    assert code.archs == {"sm_80": 2, "sm_90": 1, "sm_120": 1, "sm_90a": 1, "sm_100f": 1}
    assert code.ptx == {"compute_90": 1}


@needs_gcc
def test_code_that_is_still_to_be_linked_counts(tmp_path):
    code = counted(with_code(tmp_path / "a.so", fat_binary(entry(CUBIN, 70)), "__nv_relfatbin"))
    assert code.archs == {"sm_70": 1}


@needs_gcc
def test_padding_and_bare_cubins_between_fat_binaries(tmp_path):
    cubin = bytearray(128)
    cubin[:9] = b"\x7fELF\x02\x01\x01\x33\x07"
    struct.pack_into("<H", cubin, 18, 190)
    struct.pack_into("<Q", cubin, 40, 128)
    struct.pack_into("<I", cubin, 48, 0x560556)
    newer = bytearray(cubin)
    newer[8] = 8
    struct.pack_into("<I", newer, 48, 0x6007802)
    code = (
        fat_binary(entry(CUBIN, 80)) + bytes(64) + bytes(cubin) + bytes(newer) + fat_binary(entry(CUBIN, 80))
    )
    assert counted(with_code(tmp_path / "a.so", code)).archs == {"sm_80": 2, "sm_86": 1, "sm_120": 1}


@needs_gcc
def test_a_library_without_gpu_code(tmp_path):
    assert counted(make_library(tmp_path / "a.so")) == ({}, {})


def test_what_is_no_library(tmp_path):
    (tmp_path / "a.so").write_text("INPUT(-lb)")
    with pytest.raises(ElfError):
        counted(tmp_path / "a.so")


@needs_gcc
def test_damaged_code_ends(tmp_path):
    """Sizes of nothing, of everything, and random bytes: no error, no endless loop."""
    good = fat_binary(entry(CUBIN, 80), entry(CUBIN, 90)) * 20
    path = with_code(tmp_path / "a.so", good)
    whole = path.read_bytes()
    start = whole.index(good)
    chance = random.Random(3)
    began = time.monotonic()
    for round_ in range(300):
        broken = bytearray(whole)
        for _ in range(5):
            broken[start + chance.randrange(len(good))] = chance.choice([0, 0xFF, chance.randrange(256)])
        if round_ % 3 == 0:
            struct.pack_into("<Q", broken, start + 8, chance.choice([0, 1, 2**63, 2**64 - 1]))
        path.write_bytes(broken)
        counted(path)
    assert time.monotonic() - began < 20


def test_architectures_of_a_few_kernels_are_told_apart():
    """The counts are those of libtorch_cuda.so 2.9.1+cu128, built for 7.0 to 12.0 without 8.9."""
    counts = {
        "sm_70": 397,
        "sm_75": 397,
        "sm_80": 397,
        "sm_86": 397,
        "sm_90": 397,
        "sm_100": 397,
        "sm_120": 397,
    }
    assert supported({**counts, "sm_90a": 4, "sm_100a": 2, "sm_89": 1, "sm_120a": 1}) == list(counts)
    assert supported({}) == []
    assert sorted(["sm_100", "sm_90a", "sm_90"], key=arch_key) == ["sm_90", "sm_90a", "sm_100"]


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
def test_what_nvcc_was_asked_for_is_what_is_read(tmp_path):
    (tmp_path / "k.cu").write_text("__global__ void k(float *x) { x[0] = 1; }")
    codes = ["sm_80", "sm_90a", "sm_100f", "compute_90", "compute_90a"]
    asked = [f"-gencode=arch={code.replace('sm_', 'compute_')},code={code}" for code in codes]
    command = ["nvcc", "-shared", "-Xcompiler", "-fPIC", "-cudart", "none", "-o", "k.so", "k.cu", *asked]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("this nvcc cannot build for these architectures")
    code = counted(tmp_path / "k.so")
    assert code.archs == {"sm_80": 1, "sm_90a": 1, "sm_100f": 1}
    assert code.ptx == {"compute_90": 1, "compute_90a": 1}
