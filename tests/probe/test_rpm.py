"""rpm's databases: real ones, made by rpm and Berkeley DB where they are installed, and damaged ones."""

import itertools
import random
import shutil
import sqlite3
import struct
import subprocess

import pytest

from envlock.probe.system_packages import owners, read_system_packages
from envlock.roots.folder import FolderRoot
from tests.packages_support import write


def rpm_header(name, version, release, epoch=None, files=()):
    """Build a header blob as rpmdb stores it: numbers of entries and bytes, index entries, data."""
    entries, data = [], b""

    def add(tag, kind, count, content):
        nonlocal data
        data += b"\x00" * (-len(data) % 4) if kind == 4 else b""
        entries.append(struct.pack(">IIII", tag, kind, len(data), count))
        data += content

    def strings(values):
        return b"".join(value.encode() + b"\x00" for value in values)

    for tag, value in ((1000, name), (1001, version), (1002, release), (1022, "x86_64")):
        add(tag, 6, 1, strings([value]))
    if epoch is not None:
        add(1003, 4, 1, struct.pack(">I", epoch))
    folders = sorted({path.rpartition("/")[0] + "/" for path in files})
    if files:
        indexes = [folders.index(path.rpartition("/")[0] + "/") for path in files]
        add(1116, 4, len(files), struct.pack(f">{len(files)}I", *indexes))
        add(1117, 8, len(files), strings(path.rpartition("/")[2] for path in files))
        add(1118, 8, len(folders), strings(folders))
    return struct.pack(">II", len(entries), len(data)) + b"".join(entries) + data


LIBRARY = "/usr/local/cuda-12.4/lib64/libcudart.so.12.4.127"
HEADERS = [
    rpm_header("cuda-cudart-12-4", "12.4.127", "1", files=[LIBRARY, "/etc/x"]),
    # Longer than a page, as most headers are.
    rpm_header("openssl-libs", "3.0.7", "27.el9", epoch=1, files=["/usr/lib64/libcrypto.so.3.0.7"] + [
        f"/usr/share/doc/openssl-libs/{number}" for number in range(3000)]),
    rpm_header("gpg-pubkey", "abc", "def"),
    b"",
    b"\xff" * 64,
    struct.pack(">II", 1, 0) + struct.pack(">IIII", 1000, 6, 0xFFFFFFFF, 1),
]  # fmt: skip
PACKAGES = {"cuda-cudart-12-4": "12.4.127-1", "openssl-libs": "1:3.0.7-27.el9"}


def sqlite_database(path, blobs):
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)")
    connection.executemany("INSERT INTO Packages (blob) VALUES (?)", [(blob,) for blob in blobs])
    connection.commit()
    connection.close()


def ndb_database(path, blobs):
    """Lay blobs out as rpmpkg.c does: two pages of slots with an empty one among them, then blobs of whole blocks."""
    slots, body, pages = [(0, 0, 0)], b"", 2
    for number, blob in enumerate(blobs, 1):
        entry = struct.pack("<4sIII", b"BlbS", number, 7, len(blob)) + blob
        entry += b"\x00" * (-(len(entry) + 12) % 16) + struct.pack("<II4s", 0, len(blob), b"BlbE")
        slots.append((number, pages * 256 + len(body) // 16, len(entry) // 16))
        body += entry
    slots += [(0, 0, 0)] * (pages * 256 - 2 - len(slots))
    table = b"".join(struct.pack("<4sIII", b"Slot", *slot) for slot in slots)
    path.write_bytes(struct.pack("<4sIIII12x", b"RpmP", 0, 5, pages, len(blobs) + 1) + table + body)


def hash_database(path, blobs, order="little"):
    """Let Berkeley DB's own db_load write it, keyed by number as rpm does; number 0 holds the next one."""
    tool = shutil.which("db5.3_load") or shutil.which("db_load")
    if tool is None:
        pytest.skip("no db_load of Berkeley DB on this machine")
    rows = itertools.chain([len(blobs).to_bytes(4, order)], blobs)
    pairs = [f" {number.to_bytes(4, order).hex()}\n {blob.hex()}" for number, blob in enumerate(rows)]
    lorder = 1234 if order == "little" else 4321
    head = f"VERSION=3\nformat=bytevalue\ntype=hash\ndb_pagesize=4096\ndb_lorder={lorder}\nHEADER=END\n"
    subprocess.run([tool, path], input=head + "\n".join(pairs) + "\nDATA=END\n", text=True, check=True)


def big_endian_hash_database(path, blobs):
    hash_database(path, blobs, "big")


@pytest.mark.parametrize("folder", ["var/lib/rpm", "usr/lib/sysimage/rpm"])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("rpmdb.sqlite", sqlite_database),
        ("Packages.db", ndb_database),
        ("Packages", hash_database),
        ("Packages", big_endian_hash_database),
    ],
)
def test_packages_and_the_owners_of_libraries(tmp_path, folder, name, make):
    (tmp_path / folder).mkdir(parents=True)
    make(tmp_path / folder / name, HEADERS)
    root = FolderRoot(str(tmp_path))
    seen = read_system_packages(root)
    assert seen.facts["package"]["system"] == PACKAGES
    assert seen.unobserved == {}
    paths = ["/usr/lib64/libcrypto.so.3.0.7", LIBRARY, "/usr/lib64/x"]
    assert owners(root, paths) == {paths[0]: "rpm:openssl-libs", paths[1]: "rpm:cuda-cudart-12-4"}


SPEC = """
%define debug_package %{{nil}}
Name: {name}
Version: 12.4.127
Release: 3
{epoch}
Summary: x
License: x
%description
x
%install
mkdir -p %{{buildroot}}/usr/lib64
echo x > %{{buildroot}}/usr/lib64/{name}.so.1
%files
/usr/lib64/{name}.so.1
"""


@pytest.mark.skipif(not shutil.which("rpmbuild"), reason="no rpm on this machine")
@pytest.mark.parametrize("backend", ["sqlite", "ndb"])
def test_rpm_itself_says_the_same(tmp_path, backend):
    names = ["libcublas-12-4", "libnccl", "cuda-cudart-12-4"]
    for name in names:
        spec = tmp_path / f"{name}.spec"
        spec.write_text(SPEC.format(name=name, epoch="Epoch: 2" if name == "libnccl" else ""))
        build = ["rpmbuild", "-bb", "--define", f"_topdir {tmp_path}/top", spec]
        subprocess.run(build, check=True, capture_output=True)
    (tmp_path / "machine/var/lib/rpm").mkdir(parents=True)
    rpm = [
        "rpm",
        "--root",
        tmp_path / "machine",
        "--dbpath",
        "/var/lib/rpm",
        "--define",
        f"_db_backend {backend}",
    ]
    made = subprocess.run([*rpm, "--initdb"], check=True, capture_output=True, text=True)
    if "invalid %_db_backend" in made.stderr:
        pytest.skip(f"this rpm is built without {backend}")
    files = (tmp_path / "top/RPMS").rglob("*.rpm")
    subprocess.run(
        [*rpm, "-i", "--justdb", "--nodeps", "--noscripts", *files], check=True, capture_output=True
    )
    form = "%{name} %|epoch?{%{epoch}:}|%{version}-%{release}\\n"
    told = subprocess.run([*rpm, "-qa", "--qf", form], check=True, capture_output=True, text=True).stdout
    root = FolderRoot(str(tmp_path / "machine"))
    assert read_system_packages(root).facts["package"]["system"] == dict(
        line.split() for line in told.splitlines()
    )
    assert len(told.splitlines()) == len(names)
    paths = [f"/usr/lib64/{name}.so.1" for name in names]
    assert owners(root, paths) == {path: f"rpm:{name}" for path, name in zip(paths, names, strict=True)}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("Packages", b"", "is no Berkeley DB hash"),
        ("Packages", bytes(12) + struct.pack("<IIII", 0x061561, 9, 3, 0) + bytes(100), "has pages of 3 bytes, which"),
        ("Packages.db", b"", "is no rpm database in ndb format"),
        ("Packages.db", b"RpmP" + struct.pack("<IIII12x", 1, 0, 1, 1), "is an rpm database in version 1 of the ndb"),
        ("Packages.db", b"RpmP" + struct.pack("<IIII12x", 0, 0, 9999999, 1), "ends before its table of packages"),
        ("rpmdb.sqlite", b"no", "is no SQLite database"),
        ("rpmdb.sqlite", b"SQLite format 3\x00" + b"\x10\x00\x02\x02" + b"\xff" * 5000, "cannot be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_unobserved(tmp_path, name, content, reason):
    root = FolderRoot(write(tmp_path, {f"var/lib/rpm/{name}": content}))
    seen = read_system_packages(root)
    assert list(seen.unobserved) == ["package.system"]
    assert seen.unobserved["package.system"].startswith(f"/var/lib/rpm/{name} {reason}")
    assert owners(root, ["/usr/lib64/x"]) == {}


@pytest.mark.parametrize(
    "schema",
    [
        "CREATE VIEW Packages AS WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) "
        "SELECT zeroblob(1000) AS blob FROM n",
        "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB AS (zeroblob(500000000)))",
    ],
)
def test_a_database_that_computes_its_packages_is_refused(tmp_path, schema):
    """The first has packages without end, the second half a gigabyte a row."""
    path = tmp_path / "var/lib/rpm/rpmdb.sqlite"
    path.parent.mkdir(parents=True)
    connection = sqlite3.connect(path)
    connection.execute(schema)
    if "TABLE" in schema:
        connection.execute("INSERT INTO Packages (hnum) VALUES (1), (2), (3)")
    connection.commit()
    connection.close()
    told = read_system_packages(FolderRoot(str(tmp_path))).unobserved["package.system"]
    assert told == f"/{path.relative_to(tmp_path)} holds more than tables, which no rpm database does"


def test_a_row_that_is_longer_than_its_database_is_refused(tmp_path):
    """A column's default, which is stored once, stands for every row that was there before."""
    path = tmp_path / "var/lib/rpm/rpmdb.sqlite"
    path.parent.mkdir(parents=True)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY)")
    connection.executemany("INSERT INTO Packages VALUES (?)", [(number,) for number in range(1000)])
    connection.execute(f"ALTER TABLE Packages ADD COLUMN blob BLOB NOT NULL DEFAULT x'{'00' * 50_000}'")
    connection.commit()
    connection.close()
    told = read_system_packages(FolderRoot(str(tmp_path))).unobserved["package.system"]
    assert told.endswith("has packages that overlap")


def test_entries_of_ndb_that_overlap_are_refused(tmp_path):
    """A megabyte named by many slots would be many megabytes."""
    path = tmp_path / "var/lib/rpm/Packages.db"
    path.parent.mkdir(parents=True)
    ndb_database(path, [b"x" * 1_000_000])
    content = bytearray(path.read_bytes())
    (slot,) = struct.iter_unpack("16s", content[48:64])
    content[64:4096] = slot[0] * 252
    path.write_bytes(content)
    told = read_system_packages(FolderRoot(str(tmp_path))).unobserved["package.system"]
    assert told == "/var/lib/rpm/Packages.db has packages that overlap"


def test_a_chain_of_pages_in_a_circle_ends(tmp_path):
    path = tmp_path / "var/lib/rpm/Packages"
    path.parent.mkdir(parents=True)
    hash_database(path, HEADERS[:2])
    content = bytearray(path.read_bytes())
    chained = [start for start in range(0, len(content), 4096) if content[start + 25] == 7]
    struct.pack_into("<I", content, chained[-1] + 16, chained[0] // 4096)
    path.write_bytes(content)
    told = read_system_packages(FolderRoot(str(tmp_path))).unobserved["package.system"]
    assert told.startswith("/var/lib/rpm/Packages has a damaged chain of pages at page ")


@pytest.mark.parametrize(("name", "make"), [("Packages.db", ndb_database), ("Packages", hash_database)])
def test_damage_anywhere_is_a_reason_and_never_another_error(tmp_path, name, make):
    path = tmp_path / "var/lib/rpm" / name
    path.parent.mkdir(parents=True)
    make(path, HEADERS)
    whole = path.read_bytes()
    chance = random.Random(3)
    for _ in range(300):
        damaged = bytearray(whole[: chance.choice([len(whole), chance.randrange(len(whole))])])
        for _ in range(min(len(damaged), 20)):
            damaged[chance.randrange(len(damaged))] = chance.choice([0, 1, 0x7F, 0xFF])
        path.write_bytes(damaged)
        seen = read_system_packages(FolderRoot(str(tmp_path)), everything=True)
        assert all(reason.startswith(f"/var/lib/rpm/{name} ") for reason in seen.unobserved.values())


@pytest.mark.parametrize(("name", "make"), [("Packages.db", ndb_database), ("Packages", hash_database)])
def test_half_a_database_is_no_small_one(tmp_path, name, make):
    path = tmp_path / "var/lib/rpm" / name
    path.parent.mkdir(parents=True)
    make(path, HEADERS)
    path.write_bytes(path.read_bytes()[:-8192])
    assert list(read_system_packages(FolderRoot(str(tmp_path))).unobserved) == ["package.system"]
