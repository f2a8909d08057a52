"""Images as they are: layouts, archives, compressions, platforms, and what layers do to one another."""

import gzip
import io
import os
import random
import subprocess
import tarfile

import pytest

from envlock.probe.root import Entry, TooLargeError, UnobservableError
from envlock.roots.image import ImageError, open_image
from tests.image_support import (
    Layout,
    archive,
    docker_archive,
    file,
    folder,
    hard_link,
    layer,
    link,
    member,
    pack,
    sha256,
    tool,
)

BASE = layer(
    folder("etc"),
    link("etc/os-release", "../usr/lib/os-release"),
    file("usr/lib/os-release", "ID=debian\n"),
    link("lib", "usr/lib"),
    file("usr/bin/cat", b"\x7fELF not asked for", 0o755),
    file("usr/lib/libc.so.6", b"\x7fELF" + bytes(5000)),
)


def read(path, **options):
    return open_image(str(path), **options)


@pytest.mark.parametrize("how", ["gzip", "zstd", ""])
def test_every_compression_gives_the_same_root(tmp_path, how):
    layout = Layout(tmp_path / "oci").of(
        BASE, how=how, env=["PATH=/usr/bin", "EMPTY=", "X=a=b"], labels={"k": "v"}
    )
    with read(layout) as root:
        assert root.kind == "image"
        assert root.environ == {"PATH": "/usr/bin", "EMPTY": "", "X": "a=b"}
        assert root.config.labels == {"k": "v"}
        assert root.config.platform == "linux/amd64"
        assert root.config.digest == layout.manifests[0]["digest"]
        assert root.config.diff_ids == (sha256(BASE),)
        assert root.read("/etc/os-release") == b"ID=debian\n"
        assert root.read("/lib/libc.so.6") == b"\x7fELF" + bytes(5000)
        assert root.realpath("/etc/os-release") == "/usr/lib/os-release"
        assert root.realpath("/lib/new/x") == "/usr/lib/new/x"
        assert root.readlink("/etc/os-release") == "../usr/lib/os-release"
        assert root.scan("/") == [
            Entry("etc", True, False, False),
            Entry("lib", True, False, True),
            Entry("usr", True, False, False),
        ]


def test_a_tar_a_compressed_tar_and_a_stream_give_the_same_root(tmp_path):
    tar = archive(Layout(tmp_path / "oci").of(BASE), tmp_path / "oci.tar")
    whole = (tmp_path / "oci.tar").read_bytes()
    (tmp_path / "oci.tar.gz").write_bytes(gzip.compress(whole))
    end, start = os.pipe()
    writer = subprocess.Popen(["cat", tar], stdout=start)
    os.close(start)
    with os.fdopen(end, "rb") as pipe, open_image(pipe) as root:
        assert root.read("/etc/os-release") == b"ID=debian\n"
    assert writer.wait() == 0
    for source in (tar, str(tmp_path / "oci.tar.gz"), io.BytesIO(whole)):
        with open_image(source) as root:
            assert root.read("/etc/os-release") == b"ID=debian\n"


@pytest.mark.parametrize("how", ["", "gzip"])
def test_docker_archive_with_a_layer_twice(tmp_path, how):
    path = docker_archive(
        tmp_path / "app.tar", BASE, BASE, layer(file("etc/version.txt", "2")), env=["A=1"], how=how
    )
    with read(path) as root:
        assert root.environ == {"A": "1"}
        assert root.config.reference == "app:latest"
        assert root.read("/etc/version.txt") == b"2"
        assert root.read("/etc/os-release") == b"ID=debian\n"


def test_content_nobody_asks_for_is_not_kept_and_says_so(tmp_path):
    with read(Layout(tmp_path / "oci").of(BASE)) as root:
        assert root.is_file("/usr/bin/cat")
        assert root.stat("/usr/bin/cat").size == 18
        assert root.stat("/usr/bin/cat").mtime_ns == 1_700_000_000 * 10**9
        with pytest.raises(OSError, match="not kept"):
            root.read("/usr/bin/cat")
    with read(
        Layout(tmp_path / "oci2").of(BASE), keep=lambda path, size, mode: path == "usr/bin/cat"
    ) as root:
        assert root.read("/usr/bin/cat") == b"\x7fELF not asked for"


def test_errors_are_those_of_a_file_system(tmp_path):
    odd = layer(
        link("loop", "pool"),
        link("pool", "/loop"),
        link("gone", "nowhere"),
        member("dev/null", tarfile.CHRTYPE),
    )
    with read(Layout(tmp_path / "oci").of(BASE, odd)) as root:
        for path, error in {
            "/no/such": FileNotFoundError,
            "/gone": FileNotFoundError,
            "/usr": IsADirectoryError,
            "/dev/null": OSError,
            "/loop": OSError,
            "/lib/libc.so.6/x": FileNotFoundError,
        }.items():
            with pytest.raises(error):
                root.read(path)
        with pytest.raises(NotADirectoryError):
            root.scan("/etc/os-release")
        with pytest.raises(FileNotFoundError):
            root.scan("/no")
        with pytest.raises(OSError):
            root.readlink("/usr")
        with pytest.raises(TooLargeError):
            root.read("/etc/os-release", limit=3)
        assert root.realpath("/loop/x") == "/loop/x"
        assert not root.exists("/loop")
        assert not root.exists("/gone")
        assert root.exists("/dev/null")
        assert not root.is_file("/dev/null")
        with pytest.raises(UnobservableError):
            root.run(["true"])
        with pytest.raises(UnobservableError):
            root.ask("nvml")


def test_open_gives_a_file_that_can_be_sought(tmp_path):
    for how in ("gzip", ""):
        with (
            read(Layout(tmp_path / f"oci{how}").of(BASE, how=how)) as root,
            root.open("/lib/libc.so.6") as content,
        ):
            assert content.seek(-2, io.SEEK_END) == 5002
            assert content.read(100) == b"\0\0"
            assert content.read(1) == b""
            content.seek(1)
            assert content.read(3) == b"ELF"
            assert content.tell() == 4


# ---- layers -------------------------------------------------------------------------------------------


def tree(root, path="/"):
    """Return every path under a folder, links not followed."""
    found = []
    for entry in root.scan(path):
        inside = path.rstrip("/") + "/" + entry.name
        found.append(inside)
        if entry.is_dir and not entry.is_link:
            found += tree(root, inside)
    return found


def layers_of(tmp_path, *layers):
    return read(Layout(tmp_path / "oci").of(*layers))


def test_a_whiteout_hides_files_and_folders_of_lower_layers(tmp_path):
    upper = layer(file("a/.wh.x"), file(".wh.b"), file("a/new"))
    with layers_of(tmp_path, layer(file("a/x"), file("a/y"), file("b/z")), upper) as root:
        assert tree(root) == ["/a", "/a/new", "/a/y"]


@pytest.mark.parametrize("first", [True, False])
def test_a_whiteout_spares_its_own_layer_whatever_the_order(tmp_path, first):
    own = [file("b/own")]
    hiding = [file(".wh.b"), file("c/.wh..wh..opq"), file("c/own")]
    upper = layer(*hiding, *own) if first else layer(*own, *reversed(hiding))
    with layers_of(tmp_path, layer(file("b/z"), file("c/d/z")), upper) as root:
        assert tree(root) == ["/b", "/b/own", "/c", "/c/own"]


def test_a_file_replaces_a_folder_and_the_other_way_round(tmp_path):
    lower = layer(file("a/x"), file("b"), link("c", "a"), file("d/x"))
    upper = layer(file("a", "now a file"), folder("b"), file("b/y"), folder("c"), file("c/z"), link("d", "b"))
    with layers_of(tmp_path, lower, upper) as root:
        assert tree(root) == ["/a", "/b", "/b/y", "/c", "/c/z", "/d"]
        assert root.realpath("/d/y") == "/b/y"


def test_replacing_within_one_layer_takes_the_last_word(tmp_path):
    only = layer(file("a/x"), file("a", "file"), file("a/y"), link("l", "m"), file("m/1"), file("l/2"))
    with layers_of(tmp_path, only) as root:
        assert tree(root) == ["/a", "/a/y", "/l", "/m", "/m/1", "/m/2"]


def test_files_put_below_a_link_of_a_lower_layer(tmp_path):
    """Without an entry for the folder the link stays (bazel's distroless images); with one it is replaced."""
    lower = layer(folder("usr/lib"), link("lib", "usr/lib"), file("usr/lib/old"))
    with layers_of(tmp_path, lower, layer(file("lib/new"))) as root:
        assert tree(root) == ["/lib", "/usr", "/usr/lib", "/usr/lib/new", "/usr/lib/old"]
    with read(Layout(tmp_path / "two").of(lower, layer(folder("lib"), file("lib/new")))) as root:
        assert tree(root) == ["/lib", "/lib/new", "/usr", "/usr/lib", "/usr/lib/old"]


def test_hard_links_within_and_across_layers(tmp_path):
    lower = layer(
        file("pkgs/libx.so", "content"), hard_link("env/libx.so", "pkgs/libx.so"), file("blob", "4.5")
    )
    upper = layer(
        hard_link("env/liby.so.1", "./pkgs/libx.so"),
        hard_link("env/version.txt", "/blob"),
        file(".wh.pkgs"),
        hard_link("env/lost", "nowhere/at/all"),
    )
    with layers_of(tmp_path, lower, layer(file("blob", "overwritten above"))) as root:
        assert root.stat("/env/libx.so").inode == root.stat("/pkgs/libx.so").inode
        assert root.read("/env/libx.so") == b"content"
    with read(Layout(tmp_path / "two").of(lower, upper)) as root:
        assert root.read("/env/version.txt") == b"4.5"  # not kept under its first name
        assert root.read("/env/libx.so") == b"content"
        with pytest.raises(OSError, match="hard link to a file"):
            root.read("/env/lost")


def test_a_file_hidden_from_above_is_still_there_for_a_hard_link_between(tmp_path):
    layers = (
        layer(file("a/libx.so", "first")),
        layer(hard_link("b/liby.so", "a/libx.so")),
        layer(file("a/libx.so", "second")),
    )
    with layers_of(tmp_path, *layers) as root:
        assert root.read("/b/liby.so") == b"first"
        assert root.read("/a/libx.so") == b"second"


def test_long_names_and_odd_names(tmp_path):
    deep = "/".join(["a" * 50] * 6)
    names = [
        f"{deep}/version.txt",
        "ünïcödé/version.txt",
        "with space/version.txt",
        ".hidden/..x/version.txt",
    ]
    for format_, how in ((tarfile.PAX_FORMAT, "gzip"), (tarfile.GNU_FORMAT, "")):
        members = [file(name, name) for name in names] + [link("l", deep + "/" + "b" * 150)]
        with read(Layout(tmp_path / f"oci{format_}").of(layer(*members, format=format_), how=how)) as root:
            for name in names:
                assert root.read("/" + name) == name.encode()
            assert root.readlink("/l") == deep + "/" + "b" * 150


def test_a_name_that_is_not_utf8(tmp_path):
    content = layer(file("na\udce9f/version.txt", "1"))
    with layers_of(tmp_path, content) as root:
        assert root.read("/na\udce9f/version.txt") == b"1"


def test_sparse_files_have_a_size_and_no_content(tmp_path):
    """GNU tar writes them as type S, or under pax with GNU.sparse records; what follows is still found."""
    program = tool("tar")
    where = tmp_path / "files"
    where.mkdir()
    with (where / "libbig.so").open("wb") as big:
        for number in range(40):  # more holes than the header holds: continuation blocks
            big.seek(number << 16)
            big.write(b"x" * 4096)
        big.truncate(1 << 30)
    (where / "version.txt").write_text("after")
    for format_ in ("gnu", "pax"):
        command = [program, f"--format={format_}", "-S", "-cf", "-", "libbig.so", "version.txt"]
        content = subprocess.run(command, cwd=where, capture_output=True, check=True).stdout
        with read(Layout(tmp_path / format_).of(content)) as root:
            assert root.stat("/libbig.so").size == 1 << 30
            assert root.read("/version.txt") == b"after"
            with pytest.raises(OSError, match="sparse"):
                root.open("/libbig.so")


def test_a_large_library_survives_every_way_of_packing(tmp_path):
    content = random.Random(1).randbytes(3_000_001)
    for how in ("gzip", "zstd", ""):
        packed = layer(file("opt/libbig.so.1", content), file("opt/version.txt", "end"))
        with read(Layout(tmp_path / f"oci{how}").of(packed, how=how)) as root:
            assert root.read("/opt/libbig.so.1") == content
            assert root.read("/opt/version.txt") == b"end"


def test_gzip_members_one_after_the_other(tmp_path):
    """As pigz -i, bgzip and estargz write them; padding with zeros is as good as none."""
    layout = Layout(tmp_path / "oci")
    descriptor = layout.image(BASE)
    parts = b"".join(gzip.compress(BASE[at : at + 1000]) for at in range(0, len(BASE), 1000)) + bytes(700)
    rewrite(layout, descriptor, parts)
    with read(layout) as root:
        assert root.read("/etc/os-release") == b"ID=debian\n"


def rewrite(layout, descriptor, packed):
    """Put an image into the index whose only layer is packed otherwise."""
    import json

    manifest = json.loads((layout.path / "blobs/sha256" / descriptor["digest"][7:]).read_text())
    manifest["layers"] = [layout.blob(packed, manifest["layers"][0]["mediaType"])]
    layout.add(layout.blob(manifest, descriptor["mediaType"], platform=descriptor["platform"]))


# ---- platforms and names ------------------------------------------------------------------------------


def several(tmp_path):
    layout = Layout(tmp_path / "oci")
    images = [
        layout.image(layer(file("version.txt", arch)), arch=arch, variant=variant)
        for arch, variant in (("amd64", None), ("arm64", "v8"), ("arm", "v7"))
    ]
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": images}
    return layout.add(layout.blob(index, index["mediaType"]))


def test_a_platform_is_chosen_in_a_nested_index(tmp_path):
    layout = several(tmp_path)
    for platform, content in {
        "linux/arm64": b"arm64",
        "linux/arm64/v8": b"arm64",
        "linux/arm": b"arm",
    }.items():
        with read(layout, platform=platform) as root:
            assert root.read("/version.txt") == content
    with pytest.raises(
        ImageError, match="no image for linux/s390x, only for linux/amd64, linux/arm/v7, linux/arm64"
    ):
        read(layout, platform="linux/s390x").__enter__()


def test_this_machines_platform_is_the_default(tmp_path, monkeypatch):
    layout = several(tmp_path)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with read(layout) as root:
        assert root.read("/version.txt") == b"arm64"
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(ImageError, match="choose one with --platform"):
        read(layout).__enter__()
    with read(Layout(tmp_path / "one").of(layer(file("version.txt", "1")), arch="s390x")) as root:
        assert root.config.platform == "linux/s390x"


def test_several_images_are_told_apart_by_tag(tmp_path):
    layout = Layout(tmp_path / "oci")
    layout.of(layer(file("version.txt", "1")), tag="one").of(layer(file("version.txt", "2")), tag="two")
    with pytest.raises(ImageError, match=r"several images \(one, two\)"):
        read(layout).__enter__()
    with read(f"{layout}:two") as root:
        assert root.read("/version.txt") == b"2"
    with pytest.raises(ImageError, match="no image named 'three'"):
        read(f"{layout}:three").__enter__()


def test_what_is_no_image_in_an_index_is_passed_over(tmp_path):
    layout = Layout(tmp_path / "oci").of(BASE)
    attestation = layout.image(layer(file("x")), arch="unknown")
    layout.add({**attestation, "annotations": {"vnd.docker.reference.type": "attestation-manifest"}})
    chart = {
        "schemaVersion": 2,
        "config": layout.blob({}, "application/vnd.cncf.helm.config.v1+json"),
        "layers": [],
    }
    layout.add(layout.blob(chart, "application/vnd.oci.image.manifest.v1+json"))
    with read(layout) as root:
        assert root.exists("/etc/os-release")


def test_zstd_without_a_library_names_the_extra(tmp_path, monkeypatch):
    packed = pack(BASE, "zstd")
    import importlib

    real = importlib.import_module

    def without(name, *more):
        if name in ("zstandard", "compression.zstd"):
            raise ImportError(name)
        return real(name, *more)

    layout = Layout(tmp_path / "oci")
    rewrite(layout, layout.image(BASE), packed)
    monkeypatch.setattr("envlock.roots.image.stream.importlib.import_module", without)
    with pytest.raises(
        ImageError, match=r"layer 1 of 1 is compressed with zstd: install envlock-stack\[image\]"
    ):
        read(layout).__enter__()
