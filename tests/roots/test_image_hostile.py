"""Images that are damaged or mean harm: one sentence, in bounded time and memory, and nothing left behind."""

import gzip
import io
import json
import os
import tarfile
import threading
import time
import tracemalloc
import zlib

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from envlock.errors import EnvlockError
from envlock.roots.image import ImageError, Limits, open_image
from tests.image_support import (
    INDEX,
    LAYER,
    MANIFEST,
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
    walk,
)

BASE = layer(folder("etc"), file("etc/os-release", "ID=debian\n"), file("lib/libc.so.6", os.urandom(3000)))


def error_of(source, **options):
    """Return the one sentence that reading ends with."""
    with (
        pytest.raises(ImageError) as caught,
        open_image(source if hasattr(source, "read") else str(source), **options),
    ):
        pass
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("cannot read image ")
    return text


@pytest.fixture(autouse=True)
def nothing_stays_behind(tmp_path, monkeypatch):
    """Every test's temporary folder is empty afterwards, and no file, thread or descriptor is left open."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    yield
    assert os.listdir(scratch) == []
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == descriptors


# ---- what is wrong is named ---------------------------------------------------------------------------


def test_a_wrong_digest_names_the_layer(tmp_path):
    layout = Layout(tmp_path / "oci").of(BASE, layer(file("a")), layer(file("b")))
    path = next(p for p in (tmp_path / "oci/blobs/sha256").iterdir() if p.read_bytes() == pack(BASE, "gzip"))
    content = bytearray(path.read_bytes())
    content[1000:1010] = b"0123456789"
    path.write_bytes(content)
    assert error_of(layout) == (
        f"cannot read image {layout}: layer 1 of 3 does not match its digest (sha256:{path.name})"
    )


def test_a_wrong_diff_id_is_an_error_even_with_a_right_blob(tmp_path):
    layout = Layout(tmp_path / "oci")
    other = layout.image(layer(file("x")))
    manifest = json.loads(blob_of(layout, other["digest"]).read_text())
    packed = pack(BASE, "gzip")
    manifest["layers"] = [layout.blob(packed, LAYER + "+gzip")]
    layout.add(layout.blob(manifest, MANIFEST))
    assert "layer 1 of 1 does not match its digest" in error_of(layout)


def blob_of(layout, digest):
    return layout.path / "blobs/sha256" / digest[7:]


def test_a_docker_archive_is_held_to_its_diff_ids(tmp_path):
    path = tmp_path / "app.tar"
    docker_archive(path, BASE)
    path.write_bytes(path.read_bytes().replace(b"ID=debian", b"ID=ubuntu"))
    assert "layer 1 of 1 does not match its digest (sha256:" in error_of(path)
    path.write_bytes(path.read_bytes().replace(b'"linux"', b'"Linux"'))
    assert "configuration does not match its digest" in error_of(path)


@pytest.mark.parametrize("which", ["layers", "config", "manifest"])
def test_a_missing_blob_is_named(tmp_path, which):
    layout = Layout(tmp_path / "oci").of(BASE)
    manifest = json.loads(blob_of(layout, layout.manifests[0]["digest"]).read_text())
    digest = {
        "layers": manifest["layers"][0]["digest"],
        "config": manifest["config"]["digest"],
        "manifest": layout.manifests[0]["digest"],
    }[which]
    blob_of(layout, digest).unlink()
    assert f"({digest}) is missing" in error_of(layout)


def test_truncation_anywhere_is_an_error(tmp_path):
    whole = (tmp_path / "oci.tar", tmp_path / "app.tar")
    archive(Layout(tmp_path / "oci").of(BASE), whole[0])
    docker_archive(whole[1], BASE)
    for path in whole:
        content = path.read_bytes()
        end = len(content.rstrip(b"\0"))
        for cut in range(0, end, 997):
            assert error_of(io.BytesIO(content[:cut]))
            compressed = gzip.compress(content, 1)
        assert "cut short" in error_of(io.BytesIO(compressed[: len(compressed) // 2]))


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (b"", "neither an OCI layout nor"),
        (b"hello", "cut short"),
        (b"x" * 512, "bad tar header at byte 0"),
        (b"BZh91AY", "compressed with bzip2"),
        (layer(file("hello")), "neither an OCI layout nor"),
        (layer(file("manifest.json", "[")), "manifest.json is not JSON"),
        (layer(file("manifest.json", "{}")), "manifest.json is not a list"),
        (layer(file("manifest.json", "[]")), "it holds no image"),
        (layer(file("manifest.json", "[" * 100_000)), "manifest.json is not JSON"),
        (layer(file("manifest.json", "[" + "1" * 10_000 + "]")), "manifest.json is not JSON"),
        (layer(file("manifest.json", '[{"Config": "a"}]')), "configuration a is missing"),
        (layer(file("manifest.json", b" " * (5 << 20))), "manifest.json has 5242880 bytes"),
        (layer(file("oci-layout"), file("index.json", '{"manifests": [7]}')), "descriptor is not an object"),
        (
            layer(
                file("index.json", '{"manifests": [{"digest": "sha256:../../../../etc/passwd", "size": 1}]}')
            ),
            "something else than a digest",
        ),
    ],
)
def test_what_is_no_image_is_said_in_a_sentence(source, text):
    assert text in error_of(io.BytesIO(source))


def test_a_path_that_is_not_there_or_no_image(tmp_path):
    assert error_of(tmp_path / "no.tar").endswith("no.tar: No such file or directory")
    assert "neither an OCI layout nor" in error_of(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in error_of(tmp_path / "pipe")


# ---- names and links ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/../evil", "a/b/../../../../evil/"])
def test_names_that_lead_out_are_an_error(tmp_path, name):
    assert "layer 1 of 1 names a path outside the image" in error_of(
        Layout(tmp_path / "a").of(layer(file(name)))
    )
    hard = layer(hard_link("x", name))
    assert "layer 1 of 1 names a path outside the image" in error_of(Layout(tmp_path / "b").of(hard))


def test_links_never_lead_out(tmp_path):
    (tmp_path / "secret").write_text("secret")
    links = layer(
        link("etc/os-release", str(tmp_path / "secret")),
        link("up/version.txt", "../" * 60 + str(tmp_path / "secret")),
        link("root", "/"),
        link("self/self", "."),
        link("escape", "../../../.."),
        file("escape/below/version.txt", "inside"),
    )
    with open_image(str(Layout(tmp_path / "oci").of(links))) as root:
        for path in ("/etc/os-release", "/up/version.txt", "/root/root/root" + str(tmp_path / "secret")):
            assert not root.exists(path)
            with pytest.raises(FileNotFoundError):
                root.read(path)
        assert root.realpath("/self/self/self/self") == "/self"
        assert root.read("/below/version.txt") == b"inside"
        assert root.realpath("/../../etc/../below") == "/below"


def test_devices_and_pipes_are_only_remembered(tmp_path):
    kinds = [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
    odd = layer(*(member(f"lib/lib{n}.so", kind) for n, kind in enumerate(kinds)))
    with open_image(str(Layout(tmp_path / "oci").of(odd))) as root:
        for number in range(3):
            assert root.exists(f"/lib/lib{number}.so")
            with pytest.raises(OSError, match="not a regular file"):
                root.open(f"/lib/lib{number}.so")


# ---- costs --------------------------------------------------------------------------------------------


def bounded(source, seconds=5.0, mebibytes=64, **options):
    """Return the sentence, and hold time and memory to a bound."""
    tracemalloc.start()
    start = time.process_time()
    text = error_of(source, **options)
    took, (_, peak) = time.process_time() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took < seconds
    assert peak < mebibytes << 20
    return text


def bomb(layout, pieces):
    """Put an image into a layout whose layer is gzip over all pieces."""
    state = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b"".join([state.compress(piece) for piece in pieces] + [state.flush()])
    described = layout.image(b"")
    manifest = json.loads(blob_of(layout, described["digest"]).read_text())
    manifest["layers"] = [layout.blob(packed, LAYER + "+gzip")]
    return layout.add(layout.blob(manifest, MANIFEST))


def header(name, size, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def test_a_decompression_bomb_stops_at_the_ratio(tmp_path):
    zeros = [bytes(1 << 20)] * 300
    layout = bomb(Layout(tmp_path / "oci"), [header("zeros", 300 << 20), *zeros])
    limits = Limits(ratio_floor=64 << 20, ratio=100)
    assert "layer 1 of 1 unpacks to more than 64 MiB from" in bounded(layout, limits=limits)
    assert "unpacks to more than 32 MiB" in bounded(layout, limits=Limits(unpacked=32 << 20))


def test_a_bomb_around_the_archive_stops_too():
    packed = gzip.compress(bytes(100 << 20))
    assert "it is larger than 16 MiB" in bounded(io.BytesIO(packed), limits=Limits(unpacked=16 << 20))


def test_a_huge_library_is_not_copied_beyond_the_limit(tmp_path):
    layout = bomb(Layout(tmp_path / "oci"), [header("lib/libbig.so", 200 << 20), *[bytes(1 << 20)] * 200])
    text = bounded(layout, limits=Limits(kept=100 << 20))
    assert "holds more than 100 MiB of libraries and metadata" in text
    assert "holds more than" in bounded(bomb(Layout(tmp_path / "b"), [header("lib/libbig.so", 1 << 60)]))


def test_millions_of_entries_stop_at_the_limit(tmp_path):
    headers = [header(f"d/{number:07}", 0) for number in range(30_000)]
    layout = bomb(Layout(tmp_path / "oci"), headers)
    assert "layer 1 of 1 holds more than 20000 files" in bounded(
        layout, seconds=10, limits=Limits(entries=20_000)
    )


def test_folders_nobody_stated_count_too(tmp_path):
    deep = [file("/".join(f"{number}{part}" for part in range(200)), "") for number in range(200)]
    layout = Layout(tmp_path / "oci").of(layer(*deep))
    assert "holds more than 20000 files" in bounded(layout, seconds=10, limits=Limits(entries=20_000))
    layout = Layout(tmp_path / "b").of(layer(file("a/" * 2000 + "x")))
    assert "folders more than 256 deep" in bounded(layout)


def test_pax_bombs_stop(tmp_path):
    huge = header("x", 50 << 20, tarfile.XHDTYPE)
    assert "extended tar header of 52428800 bytes" in bounded(bomb(Layout(tmp_path / "a"), [huge]))
    long = header("x", 1 << 20, tarfile.GNUTYPE_LONGNAME) + b"a" * (1 << 20)
    assert "bad tar header" in bounded(bomb(Layout(tmp_path / "b"), [long, header("x", 0)]))
    for bad in (
        b"99999999999999999999 a=b\n",
        b"0 a=b\n",
        b"-5 a=\n",
        b"5 ab\n",
        b"7 size=x\n",
        b"11 size=-1\n",
    ):
        block = header("x", len(bad), tarfile.XHDTYPE) + bad.ljust(512, b"\0") + header("y", 0)
        assert "bad tar header" in bounded(bomb(Layout(tmp_path / sha256(bad)[7:20]), [block]))


def test_pax_records_without_end_stop(tmp_path, monkeypatch):
    monkeypatch.setattr("envlock.roots.image.tar.RECORD_LIMIT", 10_000)
    block = header("x", 5 * 1024, tarfile.XHDTYPE) + b"5 a=\n" * 1024
    assert "more than 10000 extended tar headers" in bounded(bomb(Layout(tmp_path / "a"), [block] * 20))


def test_indexes_in_a_loop_or_without_end_stop(tmp_path):
    layout = Layout(tmp_path / "oci")
    index = {"mediaType": INDEX, "manifests": []}
    for _ in range(20):
        index = {"mediaType": INDEX, "manifests": [layout.blob(index, INDEX)] * 3}
    layout.add(layout.blob(index, INDEX))
    assert "indexes more than 8 deep" in bounded(layout)
    wide = Layout(tmp_path / "wide")
    many = [wide.blob({"mediaType": INDEX, "manifests": [], "n": n}, INDEX) for n in range(1100)]
    wide.add(wide.blob({"mediaType": INDEX, "manifests": many}, INDEX))
    assert "more than 1000 manifests" in bounded(wide)


def test_too_many_layers_and_disagreeing_counts(tmp_path):
    layout = Layout(tmp_path / "oci").of(*[layer(file(str(number))) for number in range(12)])
    assert "more than 10 layers" in error_of(layout, limits=Limits(layers=10))
    other = Layout(tmp_path / "b")
    manifest = json.loads(blob_of(other, other.image(BASE, BASE)["digest"]).read_text())
    manifest["layers"].pop()
    other.add(other.blob(manifest, MANIFEST))
    assert "its configuration names 2 layers, its manifest 1" in error_of(other)


def test_replacing_one_folder_for_ever_is_linear(tmp_path):
    """Every file replaces a folder with many folders below it: none of them is visited twice."""
    members = [folder(f"a/{number}") for number in range(2000)]
    for _ in range(3000):
        members += [file("a"), folder("a/b")]
    layout = Layout(tmp_path / "oci").of(layer(*members))
    start = time.process_time()
    with open_image(str(layout)) as root:
        assert [entry.name for entry in root.scan("/a")] == ["b"]
    assert time.process_time() - start < 5


def test_links_to_links_cost_little(tmp_path):
    chain = [link(f"l{n}", f"l{n + 1}/" + "x/../" * 500) for n in range(200)] + [folder("l200/x")]
    hard = [hard_link(f"h{n}", "l0/x/file") for n in range(300)]
    start = time.process_time()
    with open_image(str(Layout(tmp_path / "oci").of(layer(*chain), layer(*hard)))) as root:
        assert root.realpath("/l0/x") == "/l0/x"
    assert time.process_time() - start < 5


def test_an_error_of_the_caller_is_not_dressed_up(tmp_path):
    layout = Layout(tmp_path / "oci").of(BASE)
    with pytest.raises(OSError, match="mine"), open_image(str(layout)):
        raise OSError("mine")


def test_one_failing_layer_stops_the_others(tmp_path):
    large = [layer(file(f"{number}", bytes(40 << 20))) for number in range(6)]
    layout = Layout(tmp_path / "oci").of(*large, layer(file("../x")))
    start = time.process_time()
    assert "layer 7 of 7 names a path outside" in error_of(layout)
    assert time.process_time() - start < 3


# ---- fuzzing ------------------------------------------------------------------------------------------


def small_images():
    lower = layer(
        file("etc/os-release", "ID=x\n"), link("lib", "usr/lib"), file("usr/lib/libc.so.6", b"\x7fELF" * 30)
    )
    upper = layer(
        file("lib/.wh.libc.so.6"), hard_link("a", "usr/lib/libc.so.6"), file("é" * 80 + "/version.txt", "1")
    )
    return lower, upper


def fuzz(content):
    """Read whatever this is, and then everything in it; only the documented errors may come."""
    start = time.process_time()
    try:
        with open_image(io.BytesIO(content), limits=Limits(ratio_floor=8 << 20, kept=8 << 20)) as root:
            walk(root, "/", 0)
    except EnvlockError as error:
        assert str(error).startswith("cannot read image ")
    assert time.process_time() - start < 2


changes = st.lists(
    st.tuples(st.floats(0, 1), st.one_of(st.binary(min_size=1, max_size=12), st.integers(1, 600))),
    min_size=1,
    max_size=6,
)


def change(content, edits):
    """Overwrite with bytes, or cut out as many as the number says."""
    content = bytearray(content)
    for where, what in edits:
        at = int(where * len(content))
        if isinstance(what, int):
            del content[at : at + what]
        else:
            content[at : at + len(what)] = what
    return bytes(content)


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    where = tmp_path_factory.mktemp("images")
    lower, upper = small_images()
    docker_archive(where / "app.tar", lower, upper)
    archive(Layout(where / "oci").of(lower, upper), where / "oci.tar")
    return [(where / name).read_bytes() for name in ("app.tar", "oci.tar")]


KEYS = ["manifests", "layers", "config", "digest", "size", "mediaType", "Config", "Layers", "rootfs"]
KEYS += ["diff_ids", "Env", "Labels", "RepoTags", "platform", "annotations", "os"]
FUZZ = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


@FUZZ
@given(which=st.integers(0, 1), edits=changes)
@example(which=0, edits=[(0.0, 512)])
def test_a_damaged_archive_is_an_error_or_reads(archives, which, edits):
    fuzz(change(archives[which], edits))


@FUZZ
@given(which=st.integers(0, 1), edits=changes)
def test_a_damaged_layer_with_right_digests_is_an_error_or_reads(tmp_path_factory, which, edits):
    """The damage is in the tar itself, and every digest is of the damaged bytes: the tar reader is alone with it."""
    layers = list(small_images())
    layers[which] = change(layers[which], edits)
    path = tmp_path_factory.mktemp("fuzz") / "app.tar"
    docker_archive(path, *layers)
    fuzz(path.read_bytes())


@FUZZ
@given(
    text=st.recursive(
        st.one_of(st.none(), st.integers(), st.text(max_size=8), st.just(sha256(b"")), st.booleans()),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(
                st.sampled_from(KEYS),
                inner,
                max_size=4,
            ),
        ),
        max_leaves=20,
    ),
    name=st.sampled_from(["index.json", "manifest.json"]),
)
def test_any_json_is_an_error_or_reads(text, name):
    document = json.dumps(text).encode()
    blob = file("blobs/sha256/" + sha256(document)[7:], document)
    wrapped = {"manifests": [{"digest": sha256(document), "size": len(document)}]}
    wrapped = [text] if name == "manifest.json" else wrapped
    fuzz(layer(blob, file(name, json.dumps(wrapped)), file("blobs/sha256/" + sha256(b"")[7:])))
    fuzz(layer(blob, file(name, document)))
