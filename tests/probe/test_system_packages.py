"""dpkg, apk and rpm: which packages there are, and whose a library is."""

import os
import shutil
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
