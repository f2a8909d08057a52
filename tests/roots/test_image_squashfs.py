"""Squashfs and SIF images, made by mksquashfs."""

import os
import random
import struct
import subprocess

import pytest

from envlock.roots.folder import FolderRoot
from envlock.roots.image import ImageError, Limits, open_image
from tests.image_support import tool
from tests.roots.test_image_tools import compare


@pytest.fixture
def squashed(tmp_path):
    mksquashfs = tool("mksquashfs")
    tool("unsquashfs")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / ".singularity.d/env").mkdir(parents=True)
    (root / "usr/lib").mkdir(parents=True)
    (root / "etc/os-release").write_text("ID=x\n")
    (root / "usr/lib/libx.so.1").write_bytes(random.Random(2).randbytes(3_000_000))
    (root / "usr/lib/liby.so.1").write_bytes(random.Random(2).randbytes(3_000_000))
    (root / "usr/lib/liby.so").symlink_to("liby.so.1")
    (root / "usr/lib/not asked for").write_text("x" * 5000)
    (root / 'usr/lib/odd "name\\ and version.txt').write_text("odd")
    (root / "usr/lib/empty.so").write_text("")
    os.link(root / "etc/os-release", root / "etc/lsb-release")
    os.mkfifo(root / "usr/pipe")
    (root / ".singularity.d/env/10-docker2singularity.sh").write_text(
        '#!/bin/sh\nexport PATH="/opt/venv/bin:/bin"\nexport CUDA_VERSION="${CUDA_VERSION:-"12.4.1"}"\n'
        'export BOTH="${PATH}:x"\n'
    )
    (root / ".singularity.d/labels.json").write_text('{"a": "b"}')
    path = tmp_path / "image.sqfs"
    subprocess.run([mksquashfs, root, path, "-noappend", "-quiet"], check=True, capture_output=True)
    return root, path


def sif(path, squashfs):
    """Wrap a squashfs as Apptainer does: header, one descriptor, the partition at 64 KiB."""
    content = squashfs.read_bytes()
    header = bytearray(128)
    header[32:42] = b"SIF_MAGIC\0"
    struct.pack_into("<qqqq", header, 80, 0, 1, 4096, 585)
    descriptor = bytearray(585)
    struct.pack_into("<i?IIIqq", descriptor, 0, 0x4004, True, 1, 1, 0, 65536, len(content))
    struct.pack_into("<ii", descriptor, 201, 1, 2)
    path.write_bytes(bytes(header).ljust(4096, b"\0") + bytes(descriptor).ljust(61440, b"\0") + content)
    return path


def test_a_squashfs_holds_what_its_folder_holds(squashed):
    root, path = squashed
    with open_image(str(path)) as image:
        compare(FolderRoot(str(root)), image)
        assert image.read('/usr/lib/odd "name\\ and version.txt') == b"odd"
        assert image.read("/usr/lib/liby.so") == (root / "usr/lib/liby.so.1").read_bytes()
        assert image.environ == {"PATH": "/opt/venv/bin:/bin", "CUDA_VERSION": "12.4.1"}
        assert image.config.labels == {"a": "b"}


def test_a_sif_holds_the_same(squashed, tmp_path):
    root, path = squashed
    with open_image(str(sif(tmp_path / "image.sif", path))) as image:
        compare(FolderRoot(str(root)), image)


@pytest.mark.parametrize(
    "name", ["a\n#\n# START OF DATA - DO NOT MODIFY\n#", "x\netc/os-release R 1 644 0 0 5 0"]
)
def test_a_name_with_a_line_break_cannot_pass_for_more_files(squashed, name):
    root, path = squashed
    (root / "etc" / name).write_text("") if "/" not in name else (root / "etc" / name).parent.mkdir(
        parents=True
    )
    subprocess.run([tool("mksquashfs"), root, path, "-noappend", "-quiet"], check=True, capture_output=True)
    with pytest.raises(ImageError, match="name has a line break"):
        open_image(str(path)).__enter__()


def test_damage_and_limits_are_errors(squashed, tmp_path, monkeypatch):
    _, path = squashed
    content = path.read_bytes()
    for cut in (4, 90, 5000, len(content) // 2):
        (tmp_path / "cut.sqfs").write_bytes(content[:cut])
        with pytest.raises(ImageError, match="unsquashfs cannot read it"):
            open_image(str(tmp_path / "cut.sqfs")).__enter__()
    with pytest.raises(ImageError, match="more than 3 files"):
        open_image(str(path), limits=Limits(entries=3)).__enter__()
    with pytest.raises(ImageError, match="unpacks to more than 1 MiB"):
        open_image(str(path), limits=Limits(unpacked=1 << 20)).__enter__()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageError, match="install unsquashfs"):
        open_image(str(path)).__enter__()
