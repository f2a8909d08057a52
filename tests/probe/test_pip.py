"""Distributions as importlib and pip see them: installed, linked, shadowed, damaged."""

import glob
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from envlock.probe.cache import FileCache
from envlock.probe.pip import normalise, read_pip, verify_files
from envlock.probe.target import find_target
from envlock.roots.folder import FolderRoot
from envlock.roots.live import LiveRoot
from tests.packages_support import below, clean_environ, dist_info, pip, record_line, virtualenv, wheel, write

SITE = "env/lib/python3.11/site-packages"
ENV = {
    "env/bin/python": b"\x7fELF",
    "env/pyvenv.cfg": "home = /usr/bin\nversion = 3.11.9\n",
    f"{SITE}/README.txt": "",
}


def observe(tmp_path, *trees, **environ):
    for tree in (ENV, *trees):
        write(tmp_path, tree)
    root = FolderRoot(str(tmp_path), environ)
    return read_pip(root, find_target(root, prefix="/env"))


def packages(seen):
    return seen.facts["package"]["pip"]


# ---- against the real thing -----------------------------------------------------------------------------

BACKEND = """
import base64, hashlib, os, zipfile
def build_editable(folder, settings=None, metadata=None):
    name = "Local.Tool-0.3-py3-none-any.whl"
    files = {
        "__editable__.local_tool.pth": os.getcwd() + "/src\\n",
        "Local.Tool-0.3.dist-info/METADATA": "Metadata-Version: 2.1\\nName: Local.Tool\\nVersion: 0.3\\n",
        "Local.Tool-0.3.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        "Local.Tool-0.3.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(os.path.join(folder, name), "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return name
build_wheel = build_editable
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "Local.Tool"
version = "0.3"
"""


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Two virtual environments that the same wheels were installed into, one with an editable besides."""
    folder = tmp_path_factory.mktemp("real")
    wheels = [
        wheel(
            folder / "wheels",
            "alpha",
            "1.0",
            {"alpha/__init__.py": "", "alpha/x.py": "a = 1\n"},
            ["beta-b>=2"],
        ),
        wheel(folder / "wheels", "beta-b", "2.0.post1", {"other.py": "", "_native.abi3.so": "elf"}),
        wheel(folder / "wheels", "gamma", "3.0", {"space/gamma/__init__.py": ""}),
    ]
    write(folder / "local", {"pyproject.toml": PROJECT, "backend.py": BACKEND, "src/local_tool.py": ""})
    first = virtualenv(folder / "first")
    second = virtualenv(folder / "elsewhere" / "second")
    offline = ("--no-index", "--find-links", str(folder / "wheels"), "-q")
    pip(first, "install", *offline, *wheels)
    pip(first, "install", *offline, "--no-build-isolation", "-e", str(folder / "local"))
    pip(second, "install", *offline, "--no-compile", "alpha", "gamma")
    return folder, first, second


def read_live(prefix, **environ):
    root = LiveRoot(clean_environ(**environ))
    target = find_target(root, prefix=prefix)
    return root, target, read_pip(root, target)


def test_pip_inspect_says_the_same(real):
    folder, prefix, _ = real
    _, _, seen = read_live(prefix)
    inspected = json.loads(pip(prefix, "inspect", "--local"))
    expected, requires = {}, {}
    for item in inspected["installed"]:
        name = normalise(item["metadata"]["name"])
        direct = item.get("direct_url", {})
        expected[name] = {
            "version": item["metadata"]["version"],
            "installer": item["installer"],
            "editable": direct.get("dir_info", {}).get("editable", False),
            "source": direct.get("url", "").replace("file://", ""),
        }
        if item["metadata"].get("requires_dist"):
            requires[name] = item["metadata"]["requires_dist"]
    keys = ("version", "installer", "editable", "source")
    empty = {"editable": False, "source": ""}
    found = {
        name: {**empty, **{k: v for k, v in p.items() if k in keys}} for name, p in packages(seen).items()
    }
    assert found == expected
    assert seen.facts["_requires_dist"] == requires
    assert found["local-tool"]["source"] == str(folder / "local")
    assert seen.unobserved == {}


def test_the_markers_are_the_interpreters_own(real):
    _, prefix, _ = real
    _, _, seen = read_live(prefix)
    theirs = json.loads(pip(prefix, "inspect", "--local"))["environment"]
    mine = seen.facts["_markers"]
    assert mine == {key: theirs[key] for key in mine}
    assert {"python_full_version", "platform_machine", "implementation_name", "sys_platform"} <= set(mine)


def test_one_wheel_has_one_digest_wherever_it_is_installed(real):
    _, first, second = real
    mine, theirs = packages(read_live(first)[2]), packages(read_live(second)[2])
    assert mine["alpha"]["digest"] == theirs["alpha"]["digest"]
    assert mine["alpha"]["digest"].startswith("sha256:")
    assert mine["alpha"]["digest"] != mine["gamma"]["digest"]
    assert "digest" not in mine["local-tool"]


def test_verify_files_names_what_was_changed_and_what_is_gone(real):
    _, _, prefix = real
    root, target, _ = read_live(prefix)
    assert verify_files(root, target) == {}
    site = target.path[0]
    with open(f"{site}/alpha/x.py", "w") as file:
        file.write("a = 2\n")
    os.rename(f"{site}/space/gamma/__init__.py", f"{site}/space/gamma/moved.py")
    assert verify_files(root, target) == {
        "alpha": [f"{site}/alpha/x.py"],
        "gamma": [f"{site}/space/gamma/__init__.py"],
    }


OLD_PYTHONS = glob.glob(os.path.expanduser("~/.pyenv/versions/3.8.*/bin/python"))
DUMP = """
import json, sys
from envlock.probe.conda import read_conda
from envlock.probe.pip import read_pip, verify_files
from envlock.probe.python import read_python
from envlock.probe.system_packages import read_system_packages
from envlock.probe.target import find_target
from envlock.roots.live import LiveRoot
root = LiveRoot({"PATH": "/usr/bin", "HOME": "/nowhere"})
target = find_target(root, prefix=sys.argv[1])
seen = [read_pip(root, target), read_python(root, target), read_conda(root, target), read_system_packages(root)]
print(json.dumps([target, verify_files(root, target), [[s.facts, s.unobserved] for s in seen]], sort_keys=True))
"""


@pytest.mark.skipif(not OLD_PYTHONS, reason="no CPython 3.8 of pyenv on this machine")
def test_cpython_3_8_reads_the_same(real):
    _, prefix, _ = real
    repository = str(Path(__file__).resolve().parents[2])
    outputs = []
    for python in (sys.executable, OLD_PYTHONS[0]):
        command = [python, "-S", "-c", DUMP, prefix]
        environ = {"PYTHONPATH": repository, "PYTHONDONTWRITEBYTECODE": "1"}
        outputs.append(subprocess.run(command, env=environ, check=True, stdout=subprocess.PIPE).stdout)
    assert len(outputs[0]) > 1000
    assert outputs[0] == outputs[1]


# ---- what machines have that no installer leaves on purpose ----------------------------------------------


@pytest.mark.parametrize(
    ("files", "package", "reason"),
    [
        (
            {"numpy-1.26.4.dist-info/RECORD": ""},
            {},
            "no METADATA in /env/lib/python3.11/site-packages/numpy-1.26.4.dist-info",
        ),
        ({"numpy-1.26.4.dist-info/METADATA": "Name: numpy\n\nVersion: 9\n"}, {}, "METADATA has no Version"),
        (
            {"numpy-1.26.4.dist-info/METADATA": "Name: numpy\nVersion: ${v}\n"},
            {},
            "has Version '${v}', which is none",
        ),
        ({"numpy-1.26.4.dist-info/METADATA": None}, {}, "METADATA cannot be read"),
        ({"Numpy-1.26.4.DIST-INFO/METADATA": "name: NumPy\nversion: 1.26.4\n"}, {"version": "1.26.4"}, None),
        (
            {"numpy-1.26.4.dist-info/METADATA": b"Name: numpy\r\nVersion: 1.26.4\r\nAuthor: \xff\r\n\r\n"},
            {"version": "1.26.4"},
            None,
        ),
        ({"numpy-1.26.4.dist-info/METADATA": "Version: 1.26.4\n"}, {"version": "1.26.4"}, None),
        ({"numpy-1.26.4-py3.11.egg-info": "Name: numpy\nVersion: 1.26.4\n"}, {"version": "1.26.4"}, None),
        ({"numpy.egg-info/PKG-INFO": "Name: numpy\nVersion: 1.26.4\n"}, {"version": "1.26.4"}, None),
        (
            {"numpy-1.26.4-py3.11.egg-info/PKG-INFO": "Name: numpy\nVersion: 1.26.4\n"},
            {"version": "1.26.4"},
            None,
        ),
    ],
)
def test_odd_metadata_costs_that_fact_only(tmp_path, files, package, reason):
    seen = observe(tmp_path, below(SITE, files), below(SITE, dist_info("fine", "1.0")))
    assert packages(seen)["numpy"] == package
    assert packages(seen)["fine"]["version"] == "1.0"
    if reason is None:
        assert seen.unobserved == {}
    else:
        assert reason in seen.unobserved["package.pip.numpy"]


def test_leftovers_and_links_to_nowhere_are_no_packages(tmp_path):
    files = {
        "~umpy-1.0.dist-info/METADATA": "Name: numpy\nVersion: 1.0\n",
        "-x.dist-info/METADATA": "Version: 1\n",
    }
    write(tmp_path, below(SITE, files))
    (tmp_path / SITE / "gone-1.0.dist-info").symlink_to("/nowhere")
    seen = observe(tmp_path)
    assert packages(seen) == {"gone": {}}
    assert set(seen.unobserved) == {"package.pip.gone"}


def test_an_installers_package_without_record_has_no_digest_and_says_so(tmp_path):
    broken, debian = dist_info("broken", "1.0"), dist_info("debian", "1.0", installer="debian")
    del broken["broken-1.0.dist-info/RECORD"], debian["debian-1.0.dist-info/RECORD"]
    seen = observe(tmp_path, below(SITE, broken), below(SITE, debian))
    assert list(seen.unobserved) == ["package.pip.broken.digest"]
    assert packages(seen)["broken"] == {"version": "1.0", "installer": "pip"}


def test_a_folder_that_cannot_be_read_is_unobserved(tmp_path):
    class Closed(FolderRoot):
        def scan(self, path):
            if path.endswith("site-packages") and path.startswith("/env"):
                raise PermissionError(13, "Permission denied")
            return super().scan(path)

    write(tmp_path, ENV)
    root = Closed(str(tmp_path))
    seen = read_pip(root, find_target(root, prefix="/env"))
    assert seen.unobserved["package.pip"] == f"/{SITE} cannot be read: Permission denied"


def test_of_two_dist_infos_the_one_whose_files_lie_there_counts(tmp_path):
    old = dist_info("scipy", "1.13.1", {"scipy/__init__.py": "old = True\n"})
    new = dist_info("SciPy", "1.11.4", {"scipy/__init__.py": "n = 1\n"}, label="SciPy")
    seen = observe(tmp_path, below(SITE, old), below(SITE, new))
    assert packages(seen)["scipy"]["version"] == "1.11.4"
    assert packages(seen)["scipy"]["duplicates"] == ["1.13.1"]


def test_a_dist_info_that_lost_its_metadata_is_a_duplicate_too(tmp_path):
    seen = observe(
        tmp_path, below(SITE, dist_info("numpy", "2.0.2")), {f"{SITE}/numpy-1.26.4.dist-info/REQUESTED": ""}
    )
    assert packages(seen)["numpy"]["duplicates"] == ["1.26.4"]
    assert packages(seen)["numpy"]["version"] == "2.0.2"


USER = "home/me/.local/lib/python3.11/site-packages"
SYSTEM = {"usr/bin/python3.11": b"\x7fELF", "usr/lib/python3.11/os.py": ""}


def test_a_copy_in_the_user_site_shadows_the_environments_own(tmp_path):
    own = "usr/lib/python3.11/site-packages"
    for tree in (
        SYSTEM,
        below(own, dist_info("pillow", "10.4.0")),
        below(USER, dist_info("Pillow", "9.5.0")),
    ):
        write(tmp_path, tree)
    write(tmp_path, below(USER, dist_info("mine", "1.0")))
    root = FolderRoot(str(tmp_path), {"HOME": "/home/me"})
    found = packages(read_pip(root, find_target(root, prefix="/usr")))
    assert (found["pillow"]["version"], found["pillow"]["shadowed_by"]) == ("10.4.0", "/" + USER)
    assert found["mine"]["version"] == "1.0"
    assert "shadowed_by" not in found["mine"]
    root = FolderRoot(str(tmp_path), {"HOME": "/home/me", "PYTHONNOUSERSITE": "1"})
    found = packages(read_pip(root, find_target(root, prefix="/usr")))
    assert "mine" not in found
    assert "shadowed_by" not in found["pillow"]


def test_a_bare_folder_on_pythonpath_shadows_the_package_of_that_module(tmp_path):
    files = {"torch/__init__.py": "", "torch/nn.py": ""}
    clone = {"src/torch/__init__.py": "", "src/yaml/data.txt": "", "src/attr.py": ""}
    seen = observe(
        tmp_path,
        below(SITE, dist_info("torch", "2.4.0", files)),
        below(SITE, dist_info("PyYAML", "6.0", {"yaml/__init__.py": ""})),
        below(SITE, dist_info("attrs", "24.0", {"attr/__init__.py": "", "attrs/__init__.py": ""})),
        clone,
        PYTHONPATH="/src",
    )
    assert packages(seen)["torch"]["shadowed_by"] == "/src"
    assert packages(seen)["attrs"]["shadowed_by"] == "/src"
    assert "shadowed_by" not in packages(seen)["pyyaml"]  # a folder without __init__.py yields to a package


def test_the_source_tree_of_an_editable_does_not_shadow_it(tmp_path):
    direct = json.dumps({"url": "file:///src/my%20lib", "dir_info": {"editable": True}})
    editable = dist_info("mylib", "0.3.0", extra={"direct_url.json": direct})
    source = {"src/my lib/python/mylib.egg-info/PKG-INFO": "Name: mylib\nVersion: 0.2.0\n"}
    seen = observe(tmp_path, below(SITE, editable), source, PYTHONPATH="/src/my lib/python")
    assert packages(seen)["mylib"] == {
        "version": "0.3.0",
        "installer": "pip",
        "source": "/src/my lib",
        "editable": True,
    }


def test_an_egg_link_is_an_editable_install(tmp_path):
    source = {
        "src/old.egg-info/PKG-INFO": "Name: old\nVersion: 0.1\n",
        "src/old.egg-info/requires.txt": "numpy>=1\n\n[fast:python_version<'3.9']\nnumba\n\n[:os_name=='nt']\nwin\n",
    }
    links = {f"{SITE}/old.egg-link": "/src\n.", f"{SITE}/easy-install.pth": "/src\n"}
    seen = observe(tmp_path, source, links)
    assert packages(seen)["old"] == {"version": "0.1", "source": "/src", "editable": True}
    assert seen.facts["_requires_dist"]["old"] == [
        "numpy>=1",
        "numba ; (python_version<'3.9') and extra == \"fast\"",
        "win ; os_name=='nt'",
    ]
    (tmp_path / SITE / "easy-install.pth").unlink()
    assert packages(observe(tmp_path))["old"]["source"] == "/src"


@pytest.mark.parametrize(
    ("direct", "source"),
    [
        (
            {
                "url": "https://ci:s3cr3t@github.com/acme/m.git",
                "vcs_info": {"vcs": "git", "commit_id": "1f0c2ab"},
            },
            "git+https://github.com/acme/m.git@1f0c2ab",
        ),
        (
            {
                "url": "ssh://git@github.com/acme/m",
                "vcs_info": {"vcs": "git", "commit_id": "1f0"},
                "subdirectory": "py",
            },
            "git+ssh://git@github.com/acme/m@1f0#subdirectory=py",
        ),
        (
            {
                "url": "https://x.org/m-1.0.whl?X-Amz-Signature=s3cr3t&token=s3cr3t#sha256=00",
                "archive_info": {},
            },
            "https://x.org/m-1.0.whl",
        ),
        (
            {"url": "https://x.org/a/ghp_0123456789abcdefs3cr3t/m-1.0.whl", "archive_info": {}},
            "https://x.org/a/***/m-1.0.whl",
        ),
        ({"url": "file:///data/wheels/m-1.0.whl", "archive_info": {}}, "/data/wheels/m-1.0.whl"),
    ],
)
def test_sources_carry_no_secrets(tmp_path, direct, source):
    seen = observe(
        tmp_path, below(SITE, dist_info("m", "1.0", extra={"direct_url.json": json.dumps(direct)}))
    )
    assert packages(seen)["m"]["source"] == source
    assert "s3cr3t" not in repr(seen.facts)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"url": 3, "vcs_info": []}', "[" * 100_000])
def test_a_broken_direct_url_costs_the_source_only(tmp_path, text):
    seen = observe(tmp_path, below(SITE, dist_info("m", "1.0", extra={"direct_url.json": text})))
    assert packages(seen)["m"]["version"] == "1.0"
    assert list(seen.unobserved) == ["package.pip.m.source"]


@pytest.mark.parametrize(
    ("name", "files", "extra", "imports"),
    [
        ("opencv-python", {"cv2/__init__.py": "", "cv2/data/__init__.py": "x"}, {}, ["cv2"]),
        ("typing-extensions", {"typing_extensions.py": ""}, {}, None),
        ("Flask-Cors", {"flask_cors/__init__.py": ""}, {}, None),
        ("attrs", {"attr/__init__.py": "a", "attrs/__init__.py": "b"}, {}, ["attr", "attrs"]),
        ("cffi", {"_cffi_backend.cpython-311-x86_64-linux-gnu.so": "", "cffi/__init__.py": "a"}, {}, None),
        (
            "google-auth",
            {"google/auth/__init__.py": "a", "google/oauth2/__init__.py": "b"},
            {},
            ["google.auth", "google.oauth2"],
        ),
        (
            "nvidia-cudnn-cu12",
            {"nvidia/__init__.py": "", "nvidia/cudnn/__init__.py": "", "nvidia/cudnn/lib/libcudnn.so.9": "x"},
            {},
            ["nvidia.cudnn"],
        ),
        (
            "zope.event",
            {"zope/__init__.py": "pkg_resources", "zope/event/__init__.py": "a"},
            {"namespace_packages.txt": "zope\n"},
            None,
        ),
        ("data-only", {"share/x.txt": ""}, {"top_level.txt": "google\n"}, None),
    ],
)
def test_import_names_where_they_are_not_the_projects_own(tmp_path, name, files, extra, imports):
    seen = observe(tmp_path, below(SITE, dist_info(name, "1.0", files, extra=extra)))
    assert packages(seen)[normalise(name)].get("imports") == imports


def test_installers_marks_do_not_change_the_digest(tmp_path):
    files = {"m/__init__.py": "1\n", 'm/a,"b.py': "2\n"}
    base = "lib/python3.11/site-packages"
    plain = dist_info("m", "1.0", files, installer="")
    signed = dist_info("m", "1.0", files, installer="uv", extra={"uv_cache.json": "{}", "REQUESTED": ""})
    record = signed["m-1.0.dist-info/RECORD"].decode()
    more = [
        record_line("../../../bin/m", b"#!/env"),
        "m/__pycache__/__init__.cpython-311.pyc,,",
        record_line("m/x.pyc", b""),
    ]
    signed["m-1.0.dist-info/RECORD"] = "\r\n".join([*more, *reversed(record.splitlines())]).encode()
    changed = dist_info("m", "1.0", {**files, "m/__init__.py": "3\n"})
    digests = []
    for name, tree in (("a", plain), ("b", signed), ("c", changed)):
        write(
            tmp_path,
            {f"{name}/bin/python": b"", f"{name}/pyvenv.cfg": "home = /x\n", **below(f"{name}/{base}", tree)},
        )
        root = FolderRoot(str(tmp_path))
        digests.append(packages(read_pip(root, find_target(root, prefix="/" + name)))["m"]["digest"])
    assert digests[0] == digests[1] != digests[2]


def test_a_record_cannot_lead_out_of_the_environment(tmp_path):
    made = dist_info("m", "1.0")
    made["m-1.0.dist-info/RECORD"] += (
        b"../../../../secret,sha256=AAAA,3\n/secret,sha256=AAAA,3\n\xff\x00,sha256=AA,\n"
    )
    write(tmp_path, {**ENV, **below(SITE, made), "secret": "xyz"})
    root = FolderRoot(str(tmp_path))
    assert verify_files(root, find_target(root, prefix="/env")) == {}


def test_the_headers_end_where_the_readme_begins(tmp_path):
    folded = "Metadata-Version: 2.1\nName: m\nVersion: 1.0\nRequires-Dist: a\n (>=1)\nRequires-Dist: b\n"
    long = (
        folded
        + "".join(f"Classifier: {number} {'x' * 90}\n" for number in range(1000))
        + "Requires-Dist: c\n\nRequires-Dist: d\n"
    )
    seen = observe(tmp_path, {f"{SITE}/m-1.0.dist-info/METADATA": long})
    assert seen.facts["_requires_dist"]["m"] == ["a (>=1)", "b", "c"]


def test_without_a_python_packages_are_unobserved(tmp_path):
    assert "package.pip" in read_pip(FolderRoot(str(tmp_path)), None).unobserved


def test_what_a_record_says_is_remembered_until_it_changes(tmp_path):
    site = tmp_path / "env/lib/python3.11/site-packages"
    namespaced = {"other-2.dist-info/namespace_packages.txt": "zope\n"}
    other = dist_info("other", "2", {"zope/__init__.py": "", "zope/one/__init__.py": "", **namespaced})
    for tree in (ENV, below(SITE, dist_info("m", "1.0", {"m.py": "x = 1\n"})), below(SITE, other)):
        write(tmp_path, tree)
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": "/nowhere"}

    def look(cached):
        root = LiveRoot(environ)
        target = find_target(root, prefix=str(tmp_path / "env"))
        if not cached:
            return packages(read_pip(root, target))
        with FileCache(root, target.prefix) as cache:
            return packages(read_pip(root, target, cache=cache))

    first = look(False)
    assert look(True) == look(True) == first
    assert first["other"]["imports"] == ["zope.one"]
    (file,) = (tmp_path / "cache/envlock").iterdir()
    remembered = json.loads(file.read_text())["files"]
    assert [key.split(":")[0] for key in remembered] == ["METADATA", "METADATA", "RECORD m-1.0.dist-info"]
    # The namespaces of the other are told by a file of their own, which may change while RECORD does not.
    (site / "other-2.dist-info/namespace_packages.txt").write_text("")
    assert "imports" not in look(True)["m"]
    assert look(True)["other"]["imports"] == ["zope"]
    write(tmp_path, below(SITE, dist_info("m", "1.0", {"n.py": "x = 2\n"})))
    changed = look(True)["m"]
    assert changed["digest"] != first["m"]["digest"]
    assert changed["imports"] == ["n"]
