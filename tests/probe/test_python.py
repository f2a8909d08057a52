"""What an interpreter is, told from files, beside what it says itself."""

import json
import os
import subprocess
import sys

import pytest

from envlock.probe.python import full_version, marker_environment, read_python
from envlock.probe.target import find_target
from envlock.roots.folder import FolderRoot
from envlock.roots.live import LiveRoot
from tests.packages_support import clean_environ, write

ASK = """
import json, platform, sqlite3, ssl, sys
print(json.dumps([platform.python_version(), ssl.OPENSSL_VERSION.split()[1], sqlite3.sqlite_version,
                  platform.machine(), platform.python_implementation()]))
"""
INTERPRETERS = [
    path for path in (os.path.realpath(sys.executable), "/usr/bin/python3") if os.path.exists(path)
]


@pytest.mark.parametrize("executable", INTERPRETERS)
def test_a_real_interpreter_says_the_same_of_itself(executable):
    root = LiveRoot(clean_environ())
    target = find_target(root, python=executable)
    seen = read_python(root, target)
    run = subprocess.run([executable, "-I", "-c", ASK], check=True, stdout=subprocess.PIPE)
    version, openssl, sqlite, machine, implementation = json.loads(run.stdout)
    table = seen.facts["python"]
    assert table["version"] == version
    assert table["implementation"] == implementation
    # Left out where it is not sure, but never wrong.
    assert table.get("openssl", openssl) == openssl
    assert table.get("sqlite", sqlite) == sqlite
    assert marker_environment(root, target)["platform_machine"] == machine
    assert seen.unobserved == {}


def observe(tmp_path, files, prefix="/usr", **environ):
    write(tmp_path, files)
    root = FolderRoot(str(tmp_path), environ)
    return root, find_target(root, prefix=prefix)


TREE = {"usr/bin/python3.11": b"\x7fELF\x00", "usr/lib/python3.11/os.py": ""}
HEADER = {"usr/include/python3.11/patchlevel.h": '#define PY_VERSION_HEX 1\n#define PY_VERSION  "3.11.8"\n'}
BINARY = {"usr/bin/python3.11": b"\x7fELF" + b"\x00" * (1024 * 1024 - 6) + b"\x003.9.9\x003.11.6+\x00"}
CONDA = {
    "usr/conda-meta/python-3.11.9-h955ad1f_0.json": "{}",
    "usr/conda-meta/openssl-3.0.14-h5eee18b_0.json": "{}",
}


@pytest.mark.parametrize(
    ("files", "version"),
    [
        ({**CONDA, **HEADER, **BINARY}, "3.11.9"),
        ({**HEADER, **BINARY}, "3.11.8"),
        (BINARY, "3.11.6"),
        ({}, None),
    ],
)
def test_the_version_is_taken_from_the_surest_file(tmp_path, files, version):
    root, target = observe(tmp_path, {**TREE, **files})
    assert full_version(root, target) == version
    if version is None:
        seen = read_python(root, target)
        assert (
            seen.unobserved["python.version"] == "no file beside /usr/bin/python3.11 tells its full version"
        )


def test_pyvenv_cfg_is_believed_only_when_nothing_else_tells(tmp_path):
    venv = {"v/pyvenv.cfg": "home = /usr/bin\nversion_info = 3.11.2.final.0\n", "v/bin/python": b"\x7fELF"}
    root, target = observe(tmp_path, {**TREE, **venv, "v/lib/python3.11/site-packages": None}, "/v")
    assert full_version(root, target) == "3.11.2"
    root, target = observe(tmp_path, HEADER, "/v")
    assert full_version(root, target) == "3.11.8"


def test_conda_names_the_openssl_it_links(tmp_path):
    root, target = observe(tmp_path, {**TREE, **CONDA})
    assert read_python(root, target).facts["python"]["openssl"] == "3.0.14"


SSL = {
    "usr/lib/python3.11/lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so": b"\x7fELF\x00libcrypto.so.3\x00libssl.so.3\x00"
}
CRYPTO = b"\x7fELF\x00OpenSSL 3.0.11 19 Sep 2023\x00"


def test_two_copies_of_a_library_leave_its_version_open(tmp_path):
    one = {"usr/lib/x86_64-linux-gnu/libcrypto.so.3": CRYPTO}
    root, target = observe(tmp_path, {**TREE, **SSL, **one})
    assert read_python(root, target).facts["python"]["openssl"] == "3.0.11"
    root, target = observe(tmp_path, {"opt/lib/libcrypto.so.3": CRYPTO}, LD_LIBRARY_PATH="/opt/lib")
    assert "openssl" not in read_python(root, target).facts["python"]


def test_abi_and_what_was_added_to_the_path(tmp_path):
    files = {
        "usr/bin/python3.13t": b"\x7fELF",
        "usr/lib/python3.13t/os.py": "",
        "usr/lib/python3.13t/site-packages/x.pth": "/extra\n",
        "work/src": None,
        "extra": None,
    }
    root, target = observe(tmp_path, files, PYTHONPATH="/work/src:/gone")
    table = read_python(root, target).facts["python"]
    assert table["abi"] == "cp313t"
    assert table["path"] == ["/work/src", "/extra"]
    assert table["user_site"] is False


def test_without_a_python_all_is_unobserved(tmp_path):
    seen = read_python(FolderRoot(str(tmp_path)), None)
    assert seen.facts == {}
    assert seen.unobserved == {"python": "no Python was found: none is active, and none is on PATH"}
