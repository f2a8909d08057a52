"""A Debian that debootstrap made, read from outside as a folder, beside what programs say that run inside it."""

import json
import os
import shutil
import subprocess

import pytest

from envlock.manifest.model import to_plain
from envlock.manifest.read import load
from envlock.roots.folder import FolderRoot
from tests.cli.support import run

SECONDS = 300

ASK = """
import json, os, platform, sqlite3, ssl, sys
from importlib.metadata import distributions
links = {}
for folder, names, files in os.walk("/"):
    if folder in ("/proc", "/sys", "/dev"):
        names.clear()
        continue
    for name in names + files:
        path = os.path.join(folder, name)
        if os.path.islink(path):
            links[path] = [os.path.realpath(path), os.path.isfile(path), os.path.isdir(path)]
print(json.dumps({
    "python": {"version": platform.python_version(), "prefix": sys.prefix, "openssl": ssl.OPENSSL_VERSION.split()[1],
               "sqlite": sqlite3.sqlite_version, "implementation": platform.python_implementation()},
    "libc": os.confstr("CS_GNU_LIBC_VERSION"), "release": platform.freedesktop_os_release(),
    "pip": {d.metadata["Name"]: d.version for d in distributions()}, "links": links,
}))
"""


@pytest.fixture(scope="module")
def debian(tmp_path_factory):
    """Return the folder of a minimal Debian with Python in it, and what its own Python says."""
    if shutil.which("debootstrap") is None:
        pytest.skip("debootstrap is not installed")
    if os.geteuid() != 0:
        pytest.skip("debootstrap and chroot need root")
    folder = tmp_path_factory.mktemp("debian") / "root"
    command = [
        "debootstrap",
        "--variant=minbase",
        "--include=python3,python3-packaging",
        "bookworm",
        str(folder),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"debootstrap did not end within {SECONDS} s")
    if done.returncode:
        pytest.skip("debootstrap failed: " + " | ".join((done.stdout + done.stderr).splitlines()[-3:]))
    # Links that would lead out of the folder, if it were not the root of everything.
    (folder / "opt/up").symlink_to("../../../../../../../../../../etc/os-release")
    (folder / "opt/absolute").symlink_to("/etc/debian_version")
    (folder / "opt/circle").symlink_to("circle")
    (folder / "opt/nowhere").symlink_to("/not/there")
    yield folder, json.loads(inside(folder, "/usr/bin/python3", "-c", ASK))
    shutil.rmtree(folder)


def inside(folder, *command):
    environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        ["chroot", str(folder), *command], env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def test_what_is_read_from_outside_is_what_its_programs_say(debian, tmp_path):
    folder, told = debian
    out = tmp_path / "debian.toml"
    done = run("capture", "--root", folder, "--all-system-packages", "-o", out)
    assert done.returncode == 0, done.stderr
    seen = to_plain(load(str(out)))
    assert seen["os"]["id"] == told["release"]["ID"] == "debian"
    assert seen["os"]["version"] == told["release"]["VERSION_ID"]
    assert seen["os"]["libc"] == told["libc"]
    python = seen["python"]
    assert {key: python.get(key) for key in told["python"]} == told["python"]
    assert python["executable"] == "/usr/bin/python3"
    query = inside(folder, "dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\n")
    rows = [line.split(" ") for line in query.splitlines()]
    packages = {name: version for status, name, version in rows if status == "installed"}
    assert seen["package"]["system"] == packages
    assert {"python3", "libc6", "dpkg"} <= set(packages)
    assert {name: package["version"] for name, package in seen["package"]["pip"].items()} == told["pip"]
    for library in seen["library"]:
        owner = inside(folder, "dpkg", "-S", os.path.basename(library["path"])).partition(":")[0]
        assert library["provider"] == f"deb:{owner}"
    # What runs here says nothing of what is in the folder.
    assert "driver" in seen["capture"]["unobserved"]
    assert "host" in seen["capture"]["unobserved"]


def test_every_link_leads_where_it_leads_for_who_lives_inside(debian):
    folder, told = debian
    root = FolderRoot(str(folder))
    seen = {path: [root.realpath(path), root.is_file(path), root.is_dir(path)] for path in told["links"]}
    assert len(seen) > 100
    assert {"/opt/up", "/opt/absolute", "/opt/nowhere", "/opt/circle"} <= set(seen)
    assert {path: answer for path, answer in seen.items() if answer != told["links"][path]} == {}
    assert root.read("/opt/up") == (folder / "usr/lib/os-release").read_bytes()
