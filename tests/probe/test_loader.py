"""The search order on paper against what the real ld.so maps, over ELF files that gcc makes."""

import os
import random
import struct
from pathlib import Path

import pytest

from envlock.probe.loader import Loader, Process, load, parse_cache, read_ld_so_conf, split_library_path
from envlock.roots.folder import FolderRoot
from envlock.roots.live import LiveRoot
from tests.elf_support import make_library, make_program, needs_gcc, really_loaded


def on_paper(program: Path, opened=(), environ=None, cwd=None) -> list[str]:
    root = LiveRoot({"PATH": "/usr/bin:/bin", "PWD": str(cwd or os.getcwd()), **(environ or {})})
    process = Process(Loader(root), str(program))
    for path in opened:
        process.open(str(path), strict=True)
    return [os.path.realpath(one.path) for one in process.objects if ".so" in one.path]


def assert_same(program: Path, opened=(), environ=None, cwd=None) -> dict[str, str]:
    """Compare with what ld.so maps; return the files by name, of two with one name the first."""
    paper = on_paper(program, opened, environ, cwd)
    assert set(paper) == really_loaded(program, opened, environ, cwd)
    assert len(set(paper)) == len(paper)
    return {os.path.basename(path): path for path in reversed(paper)}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("elf")


def two_copies(folder: Path, name: str = "libpart.so.1") -> tuple[Path, Path]:
    """A wheel's copy and a decoy of the same soname."""
    wheel = make_library(folder / "wheel/lib" / name, soname=name, source="int wheel;")
    decoy = make_library(folder / "decoy" / name, soname=name, source="int decoy;")
    return wheel, decoy


@needs_gcc
class TestAgainstTheRealLoader:
    def test_rpath_wins_over_ld_library_path(self, work):
        wheel, decoy = two_copies(work / "a")
        program = make_program(work / "a/bin/program", [wheel], rpath="$ORIGIN/../wheel/lib")
        loaded = assert_same(program, environ={"LD_LIBRARY_PATH": str(decoy.parent)})
        assert loaded["libpart.so.1"] == str(wheel)

    def test_runpath_loses_to_ld_library_path(self, work):
        wheel, decoy = two_copies(work / "b")
        program = make_program(work / "b/bin/program", [wheel], runpath="${ORIGIN}/../wheel/lib")
        assert assert_same(program)["libpart.so.1"] == str(wheel)
        loaded = assert_same(program, environ={"LD_LIBRARY_PATH": f"/nonexistent:{decoy.parent}"})
        assert loaded["libpart.so.1"] == str(decoy)

    def test_rpath_is_inherited_and_runpath_is_not(self, work):
        folder = work / "c"
        wheel, _ = two_copies(folder)
        middle = make_library(folder / "mid/libmiddle.so", [wheel], soname="libmiddle.so")
        inheriting = make_program(folder / "bin/rpath", [middle], rpath="$ORIGIN/../mid:$ORIGIN/../wheel/lib")
        assert assert_same(inheriting)["libpart.so.1"] == str(wheel)
        alone = make_program(folder / "bin/runpath", [], runpath="$ORIGIN/../mid:$ORIGIN/../wheel/lib")
        assert "libpart.so.1" not in assert_same(alone, [middle])

    def test_a_runpath_switches_off_what_would_be_inherited(self, work):
        folder = work / "d"
        wheel, decoy = two_copies(folder)
        middle = make_library(
            folder / "mid/libmiddle.so", [wheel], soname="libmiddle.so", runpath="$ORIGIN/../decoy"
        )
        program = make_program(folder / "bin/program", [middle], rpath="$ORIGIN/../mid:$ORIGIN/../wheel/lib")
        assert assert_same(program)["libpart.so.1"] == str(decoy)

    def test_the_rpath_of_the_program_counts_for_what_is_opened(self, work):
        folder = work / "e"
        wheel, decoy = two_copies(folder)
        plugin = make_library(folder / "site/plugin.so", [wheel])
        program = make_program(folder / "bin/program", rpath=str(decoy.parent))
        assert assert_same(program, [plugin])["libpart.so.1"] == str(decoy)

    def test_a_soname_that_is_loaded_is_not_searched_for_again(self, work):
        folder = work / "f"
        wheel, decoy = two_copies(folder)
        first = make_library(folder / "one/first.so", [decoy], rpath=str(decoy.parent))
        second = make_library(folder / "two/second.so", [wheel], rpath=str(wheel.parent))
        program = make_program(folder / "bin/program")
        assert assert_same(program, [first, second])["libpart.so.1"] == str(decoy)
        assert assert_same(program, [second, first])["libpart.so.1"] == str(wheel)
        assert assert_same(program, [decoy, second])["libpart.so.1"] == str(decoy)

    def test_origin_is_the_folder_of_the_name_that_was_opened(self, work):
        folder = work / "g"
        wheel, decoy = two_copies(folder)
        plugin = make_library(folder / "site/pkg/plugin.so", [wheel], runpath="$ORIGIN/../lib")
        (folder / "site/lib").symlink_to(wheel.parent)
        (folder / "other/pkg").mkdir(parents=True)
        (folder / "other/lib").symlink_to(decoy.parent)
        (folder / "other/pkg/link.so").symlink_to(plugin)
        (folder / "through").symlink_to(folder / "site/pkg")
        program = make_program(folder / "bin/program")
        assert assert_same(program, [plugin])["libpart.so.1"] == str(wheel)
        assert assert_same(program, [folder / "other/pkg/link.so"])["libpart.so.1"] == str(decoy)
        assert assert_same(program, [folder / "through/plugin.so"])["libpart.so.1"] == str(wheel)

    def test_ld_preload_comes_first(self, work):
        folder = work / "h"
        wheel, decoy = two_copies(folder)
        program = make_program(folder / "bin/program", [wheel], rpath=str(wheel.parent))
        assert assert_same(program, environ={"LD_PRELOAD": str(decoy)})["libpart.so.1"] == str(decoy)
        assert assert_same(program, environ={"LD_PRELOAD": "libpart.so.1 /nonexistent.so"})[
            "libpart.so.1"
        ] == str(wheel)

    def test_libraries_of_another_architecture_are_passed_over(self, work):
        folder = work / "i"
        wheel, decoy = two_copies(folder)
        content = bytearray(decoy.read_bytes())
        struct.pack_into("<H", content, 18, 183)
        decoy.write_bytes(content)
        program = make_program(folder / "bin/program", [wheel], runpath=str(wheel.parent))
        assert assert_same(program, environ={"LD_LIBRARY_PATH": str(decoy.parent)})["libpart.so.1"] == str(
            wheel
        )

    def test_an_empty_entry_is_the_working_folder(self, work):
        folder = work / "j"
        wheel, decoy = two_copies(folder)
        program = make_program(folder / "bin/program", [wheel], runpath=str(wheel.parent))
        loaded = assert_same(program, environ={"LD_LIBRARY_PATH": "/nonexistent:"}, cwd=decoy.parent)
        assert loaded["libpart.so.1"] == str(decoy)
        loaded = assert_same(program, environ={"LD_LIBRARY_PATH": ""}, cwd=decoy.parent)
        assert loaded["libpart.so.1"] == str(wheel)
        loaded = assert_same(program, environ={"LD_LIBRARY_PATH": "/nonexistent;decoy"}, cwd=folder)
        assert loaded["libpart.so.1"] == str(decoy)

    def test_hwcaps_folders_of_this_cpu_come_first(self, work):
        folder = work / "k"
        wheel, _ = two_copies(folder)
        for level in ("x86-64-v2", "x86-64-v3", "x86-64-v4"):
            make_library(wheel.parent / "glibc-hwcaps" / level / wheel.name, soname=wheel.name)
        program = make_program(folder / "bin/program", [wheel], rpath=str(wheel.parent))
        assert_same(program)

    def test_a_failed_dlopen_leaves_nothing_behind(self, work):
        folder = work / "l"
        wheel, decoy = two_copies(folder)
        gone = make_library(folder / "gone/libgone.so.1", soname="libgone.so.1")
        broken = make_library(folder / "site/broken.so", [decoy, gone], rpath=str(decoy.parent))
        good = make_library(folder / "site/good.so", [wheel], rpath=str(wheel.parent))
        gone.unlink()
        program = make_program(folder / "bin/program")
        assert assert_same(program, [broken, good])["libpart.so.1"] == str(wheel)

    def test_both_tags_at_once(self, work):
        # Neither ld nor patchelf writes both, but old toolchains did: DT_RPATH is then ignored.
        folder = work / "m"
        wheel, decoy = two_copies(folder)
        program = make_program(folder / "bin/program", [wheel], rpath=str(wheel.parent))
        content = program.read_bytes()
        # DT_DEBUG (21) becomes a second entry that points at the same text.
        from envlock.probe.elf import read_elf

        with program.open("rb") as file:
            elf = read_elf(file)
        old = struct.pack("<qQ", 21, 0)
        assert content.count(old) == 1
        program.write_bytes(content.replace(old, struct.pack("<qQ", 29, elf.dynamic[15])))
        assert assert_same(program, environ={"LD_LIBRARY_PATH": str(decoy.parent)})["libpart.so.1"] == str(
            decoy
        )


@needs_gcc
@pytest.mark.parametrize("seed", range(12))
def test_generated_graphs_load_as_ld_so_loads_them(seed, tmp_path):
    """Small graphs of libraries with random needs, folders, RPATHs and RUNPATHs."""
    chance = random.Random(seed)
    folders = [f"d{number}" for number in range(4)]
    sonames = [f"lib{letter}.so.1" for letter in "abcde"]
    built: dict[str, Path] = {}
    for position, soname in enumerate(sonames):
        for folder in chance.sample(folders, chance.choice([1, 1, 2])):
            needs = [
                built[other]
                for other in chance.sample(sonames[:position], min(position, chance.randint(0, 2)))
            ]
            search = ":".join("$ORIGIN/../" + one for one in chance.sample(folders, chance.randint(1, 3)))
            kind = chance.choice(["rpath", "runpath", "none"])
            paths = {} if kind == "none" else {kind: search}
            path = make_library(tmp_path / folder / soname, needs, soname=soname, **paths)
            built[soname] = path
    search = ":".join("$ORIGIN/../" + one for one in chance.sample(folders, chance.randint(0, 3)))
    kind = chance.choice(["rpath", "runpath"])
    program = make_program(tmp_path / "bin/program", **({kind: search} if search else {}))
    opened = [built[soname] for soname in chance.sample(sonames, 3)] + chance.sample(sonames, 1)
    library_path = ":".join(str(tmp_path / one) for one in chance.sample(folders, chance.randint(0, 2)))
    assert_same(program, opened, {"LD_LIBRARY_PATH": library_path} if library_path else {})


@needs_gcc
def test_the_systems_own_libraries_are_found_where_ld_so_finds_them(work):
    """Through ld.so.cache, and through the default folders without it."""
    program = make_program(work / "system/program", flags=["-lm"])
    assert {"libm.so.6", "libc.so.6"} <= assert_same(program).keys()
    real = really_loaded(program, ["libstdc++.so.6"])
    root = LiveRoot({})
    process = Process(Loader(root), str(program))
    process.open("libstdc++.so.6")
    assert {os.path.realpath(one.path) for one in process.objects if ".so" in one.path} == real


@needs_gcc
def test_how_names_the_entry_that_decided(work):
    folder = work / "how"
    wheel, decoy = two_copies(folder)
    plugin = make_library(folder / "site/plugin.so", [wheel], runpath="$ORIGIN/../wheel/lib")
    found = load(LiveRoot({}), str(plugin))
    assert found["libpart.so.1"].how == "RUNPATH $ORIGIN/../wheel/lib of plugin.so"
    found = load(LiveRoot({"LD_LIBRARY_PATH": f"/x:{decoy.parent}"}), str(plugin))
    assert found["libpart.so.1"].how == f"LD_LIBRARY_PATH entry 2 ({decoy.parent})"
    assert found["libpart.so.1"].path == str(decoy)
    assert found["libc.so.6"].how == "/etc/ld.so.cache"


@needs_gcc
def test_what_is_missing_is_named_with_who_needs_it(tmp_path):
    gone = make_library(tmp_path / "libgone.so.1", soname="libgone.so.1")
    plugin = make_library(tmp_path / "plugin.so", [gone])
    gone.unlink()
    opened = Process(Loader(LiveRoot({}))).open(str(plugin))
    assert [(one.soname, one.needed_by) for one in opened.missing] == [("libgone.so.1", str(plugin))]
    assert opened.objects[0].path == str(plugin)


def cache_file(lines, old_prefix: bool = False, levels=()) -> bytes:
    """Write an ld.so.cache as ldconfig does (sysdeps/generic/dl-cache.h)."""
    header = 48 + 24 * len(lines)
    strings = bytearray()

    def place(text: str) -> int:
        at = header + len(strings)
        strings.extend(text.encode() + b"\0")
        return at

    entries = b"".join(
        struct.pack("<iIIIQ", flags, place(soname), place(path), 0, hwcap)
        for soname, path, flags, hwcap in lines
    )
    places = [place(level) for level in levels]
    while (header + len(strings)) % 4:
        strings.extend(b"\0")
    extension = header + len(strings) if levels else 0
    body = b"glibc-ld.so.cache1.1" + struct.pack("<IIB3xI12x", len(lines), len(strings), 2, extension)
    body += entries + bytes(strings)
    if levels:
        table = extension + 24
        body += struct.pack("<IIIIII", 0xEAA42174, 1, 1, 0, table, 4 * len(places)) + struct.pack(
            f"<{len(places)}I", *places
        )
    if not old_prefix:
        return body
    return b"ld.so-1.7.0\0" + struct.pack("<I", 1) + b"\xff" * 12 + b"\0" * 4 + body


LINES = [
    ("libcudnn.so.9", "/opt/32/libcudnn.so.9", 0x0003, 0),
    ("libcudnn.so.9", "/opt/arm/libcudnn.so.9", 0x0A03, 0),
    ("libcudnn.so.9", "/opt/64/libcudnn.so.9", 0x0303, 0),
    ("libcudnn.so.9", "/opt/later/libcudnn.so.9", 0x0303, 0),
]


@pytest.mark.parametrize("old_prefix", [False, True])
def test_the_cache_answers_for_the_architecture(tmp_path, old_prefix):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/ld.so.cache").write_bytes(cache_file(LINES, old_prefix))
    root = FolderRoot(str(tmp_path))
    assert [entry.path for entry in Loader(root).cache()["libcudnn.so.9"]] == [
        "/opt/64/libcudnn.so.9",
        "/opt/later/libcudnn.so.9",
    ]
    assert [entry.path for entry in Loader(root, machine=183).cache()["libcudnn.so.9"]] == [
        "/opt/arm/libcudnn.so.9"
    ]


def test_hwcaps_lines_of_the_cache_name_their_level():
    lines = [
        ("liba.so", "/lib/glibc-hwcaps/x86-64-v3/liba.so", 0x0303, 1 << 62 | 1),
        ("liba.so", "/lib/liba.so", 0x0303, 0),
    ]
    parsed = list(parse_cache(cache_file(lines, levels=["x86-64-v2", "x86-64-v3"])))
    assert [entry.hwcap for _, entry in parsed] == ["x86-64-v3", ""]


def test_a_damaged_cache_yields_what_can_be_read():
    content = cache_file(LINES)
    assert len(list(parse_cache(content))) == 4
    for end in range(0, len(content), 7):
        assert len(list(parse_cache(content[:end]))) <= 4
    chance = random.Random(1)
    for _ in range(300):
        broken = bytearray(content)
        for _ in range(4):
            broken[chance.randrange(20, len(broken))] = chance.randrange(256)
        list(parse_cache(bytes(broken)))


@needs_gcc
def test_a_folder_without_a_cache_is_read_as_ldconfig_would(tmp_path):
    library = make_library(tmp_path / "usr/local/cuda-12.4/lib64/libcudart.so.12", soname="libcudart.so.12")
    (tmp_path / "etc/ld.so.conf.d").mkdir(parents=True)
    (tmp_path / "etc/ld.so.conf").write_text("# local\ninclude /etc/ld.so.conf.d/*.conf\n/opt/lib  # more\n")
    (tmp_path / "etc/ld.so.conf.d/cuda.conf").write_text("/usr/local/cuda-12.4/lib64\n")
    root = FolderRoot(str(tmp_path))
    assert read_ld_so_conf(root) == ["/opt/lib", "/usr/local/cuda-12.4/lib64"]
    found = Loader(root).resolve("libcudart.so.12")
    assert found is not None
    assert found.path == "/" + str(library.relative_to(tmp_path))
    assert "ld.so.conf" in found.how


def test_ld_so_conf_that_includes_itself_ends(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/ld.so.conf").write_text("include /etc/ld.so.conf\n/lib\n")
    assert read_ld_so_conf(FolderRoot(str(tmp_path))) == ["/lib"]


def test_library_path_is_split_as_ld_so_does():
    assert split_library_path("/a:/b;/c:") == ["/a", "/b", "/c", ""]
    assert split_library_path("") == []
