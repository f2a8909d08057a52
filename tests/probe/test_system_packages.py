import os
import shutil
import sqlite3
import struct
import subprocess

import pytest

from envlock.probe.system_packages import belongs_to_stack, owner, owners, read_system_packages
from envlock.roots.folder import FolderRoot
from envlock.roots.live import LiveRoot
from tests.packages_support import write

needs_dpkg = pytest.mark.skipif(not shutil.which("dpkg-query"), reason="no dpkg on this machine")


@needs_dpkg
def test_dpkg_query_says_the_same():
    form = "${Package} ${Version} ${db:Status-Status}\\n"
    run = subprocess.run(["dpkg-query", "-W", "-f", form], check=True, stdout=subprocess.PIPE)
    rows = [line.split() for line in run.stdout.decode().splitlines()]
    expected = {name: version for name, version, status in rows if status == "installed"}
    seen = read_system_packages(LiveRoot({}), everything=True)
    found = seen.facts["package"]["system"]
    assert {name: version for name, version in found.items() if ":" not in name} == expected
    usual = read_system_packages(LiveRoot({})).facts["package"]["system"]
    assert "libc6" in usual
    assert set(usual) < set(found)


@needs_dpkg
def test_dpkg_names_the_same_owners():
    paths = [
        path
        for path in map(os.path.realpath, ("/bin/bash", "/usr/bin/dpkg", "/bin/ls"))
        if os.path.isfile(path)
    ]
    found = owners(LiveRoot({}), [*paths, "/usr/lib/nobody.so", "/home/me/x.so"])
    assert sorted(found) == sorted(paths)
    assert owner(LiveRoot({}), os.path.realpath("/usr/bin/dpkg")) == "deb:dpkg"


DPKG = """Package: libcudnn9-cuda-12
Status: install ok installed
Architecture: amd64
Version: 9.1.0.70-1
Description: cuDNN
 Version: not this

Package: libc6
Status: hold ok installed
Architecture: amd64
Version: 2.35-0ubuntu3.8

Package: libc6
Status: install ok installed
Architecture: i386
Version: 2.35-0ubuntu3.8

Package: libnccl2
Status: deinstall ok config-files
Architecture: amd64
Version: 2.21.5-1+cuda12.4

Package: bash
Status: install ok installed
Architecture: amd64
Version: 5.1-6
"""


def test_the_stack_is_recorded_and_removed_packages_are_not(tmp_path):
    root = FolderRoot(write(tmp_path, {"var/lib/dpkg/status": DPKG}))
    seen = read_system_packages(root)
    assert seen.facts["package"]["system"] == {
        "libc6": "2.35-0ubuntu3.8",
        "libc6:i386": "2.35-0ubuntu3.8",
        "libcudnn9-cuda-12": "9.1.0.70-1",
    }
    assert "bash" in read_system_packages(root, everything=True).facts["package"]["system"]


def test_distroless_images_hold_one_file_a_package(tmp_path):
    files = {
        "var/lib/dpkg/status.d/libssl3": "Package: libssl3\nVersion: 3.0.11-1\nArchitecture: amd64\n",
        "var/lib/dpkg/status.d/libssl3.md5sums": "0123456789abcdef0123456789abcdef  usr/lib/libssl.so.3\n",
    }
    root = FolderRoot(write(tmp_path, files))
    assert read_system_packages(root).facts["package"]["system"] == {"libssl3": "3.0.11-1"}
    assert owner(root, "/usr/lib/libssl.so.3") == "deb:libssl3"


def test_owners_know_both_sides_of_the_usr_merge_and_multiarch_lists(tmp_path):
    files = {
        "var/lib/dpkg/info/libc6:amd64.list": "/.\n/lib\n/lib/x86_64-linux-gnu/libc.so.6\n",
        "var/lib/dpkg/info/cuda-cudart-12-4.list": "/usr/local/cuda-12.4/lib64/libcudart.so.12.4.127\n",
        "var/lib/dpkg/info/broken.list": b"\xff\xfe/\n",
    }
    root = FolderRoot(write(tmp_path, files))
    libc, cudart = "/usr/lib/x86_64-linux-gnu/libc.so.6", "/usr/local/cuda-12.4/lib64/libcudart.so.12.4.127"
    assert owners(root, [libc, cudart, "/usr/lib/x.so"]) == {
        libc: "deb:libc6",
        cudart: "deb:cuda-cudart-12-4",
    }


@pytest.mark.parametrize("folder", ["lib/apk/db", "usr/lib/apk/db"])
def test_apk(tmp_path, folder):
    text = "C:Q1x=\nP:musl\nV:1.2.5-r0\nA:x86_64\nF:lib\nR:ld-musl-x86_64.so.1\nZ:Q1\n\nP:bash\nV:5.2-r0\nA:x86_64\n\n"
    root = FolderRoot(write(tmp_path, {f"{folder}/installed": text}))
    assert read_system_packages(root).facts["package"]["system"] == {"musl": "1.2.5-r0"}
    assert owner(root, "/lib/ld-musl-x86_64.so.1") == "apk:musl"


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


def rpm_database(path, blobs):
    path.parent.mkdir(parents=True)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)")
    connection.executemany("INSERT INTO Packages (blob) VALUES (?)", [(blob,) for blob in blobs])
    connection.commit()
    connection.close()


@pytest.mark.parametrize("folder", ["var/lib/rpm", "usr/lib/sysimage/rpm"])
def test_rpm_headers(tmp_path, folder):
    blobs = [
        rpm_header(
            "cuda-cudart-12-4",
            "12.4.127",
            "1",
            files=["/usr/local/cuda-12.4/lib64/libcudart.so.12.4.127", "/etc/x"],
        ),
        rpm_header("openssl-libs", "3.0.7", "27.el9", epoch=1, files=["/usr/lib64/libcrypto.so.3.0.7"]),
        rpm_header("gpg-pubkey", "abc", "def"),
        b"",
        b"\xff" * 64,
        struct.pack(">II", 1, 0) + struct.pack(">IIII", 1000, 6, 0xFFFFFFFF, 1),
    ]
    rpm_database(tmp_path / folder / "rpmdb.sqlite", blobs)
    root = FolderRoot(str(tmp_path))
    seen = read_system_packages(root)
    assert seen.facts["package"]["system"] == {
        "cuda-cudart-12-4": "12.4.127-1",
        "openssl-libs": "1:3.0.7-27.el9",
    }
    paths = [
        "/usr/lib64/libcrypto.so.3.0.7",
        "/usr/local/cuda-12.4/lib64/libcudart.so.12.4.127",
        "/usr/lib64/x",
    ]
    assert owners(root, paths) == {paths[0]: "rpm:openssl-libs", paths[1]: "rpm:cuda-cudart-12-4"}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (
            "Packages",
            "",
            "/var/lib/rpm/Packages is an rpm database in Berkeley DB format; only SQLite is read",
        ),
        ("Packages.db", "", "/var/lib/rpm/Packages.db is an rpm database in ndb format; only SQLite is read"),
        ("rpmdb.sqlite", "no", "/var/lib/rpm/rpmdb.sqlite is no SQLite database"),
    ],
)
def test_other_rpm_databases_are_unobserved(tmp_path, name, content, reason):
    root = FolderRoot(write(tmp_path, {f"var/lib/rpm/{name}": content}))
    seen = read_system_packages(root)
    assert seen.unobserved == {"package.system": reason}
    assert owners(root, ["/usr/lib64/x"]) == {}


def test_a_damaged_sqlite_database_is_unobserved(tmp_path):
    database = b"SQLite format 3\x00" + b"\x10\x00\x02\x02" + b"\xff" * 5000
    root = FolderRoot(write(tmp_path, {"var/lib/rpm/rpmdb.sqlite": database}))
    assert (
        read_system_packages(root)
        .unobserved["package.system"]
        .startswith("/var/lib/rpm/rpmdb.sqlite cannot be read")
    )


def test_a_machine_without_any_database(tmp_path):
    seen = read_system_packages(FolderRoot(str(tmp_path)))
    assert seen.unobserved == {"package.system": "no package database of dpkg, apk or rpm"}


@pytest.mark.parametrize(
    ("name", "belongs"),
    [
        ("nvidia-driver-550", True),
        ("libnvidia-compute-550", True),
        ("cuda-toolkit-12-4", True),
        ("libcublas-12-4", True),
        ("libnccl2", True),
        ("libcudnn8", True),
        ("gcc-12", True),
        ("g++", True),
        ("libstdc++6", True),
        ("libgomp1", True),
        ("libgl1", True),
        ("libglib2.0-0", True),
        ("openmpi-bin", True),
        ("mlnx-ofed-kernel-utils", True),
        ("rdma-core", True),
        ("python3.11-minimal", True),
        ("nvidia-container-toolkit", True),
        ("linux-headers-6.8.0-45", False),
        ("libcurl4", False),
        ("libcups2", False),
        ("gcc-12-doc", False),
        ("bash", False),
        ("libnvme1", False),
    ],
)
def test_what_belongs_to_the_stack(name, belongs):
    assert belongs_to_stack(name) is belongs
