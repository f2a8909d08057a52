"""Which environment is meant, and where its modules come from, beside a real interpreter."""

import json
import os
import subprocess

import pytest

from envlock.probe.python import read_python
from envlock.probe.target import TargetError, find_target
from envlock.roots.folder import FolderRoot
from envlock.roots.live import LiveRoot
from tests.packages_support import clean_environ, virtualenv, write


def folder_root(tmp_path, files, **environ):
    write(tmp_path, files)
    return FolderRoot(str(tmp_path), environ)


CPYTHON = {"usr/bin/python3.11": b"\x7fELF", "usr/lib/python3.11/os.py": ""}


def real_path(prefix, environ):
    """What the interpreter itself says of sys.path, the standard library taken out."""
    code = "import sys, sysconfig, json; print(json.dumps([sys.path, sysconfig.get_paths()['stdlib'], sys.base_prefix]))"
    command = [f"{prefix}/bin/python", "-c", code]
    path, library, base = json.loads(
        subprocess.run(command, env=environ, check=True, stdout=subprocess.PIPE).stdout
    )
    own = (library, library + "/lib-dynload")
    return [p for p in path if p and p not in own and not p.endswith(".zip") and os.path.exists(p)], base


@pytest.mark.parametrize("system_site", [False, True])
@pytest.mark.parametrize(
    "extra", [{}, {"PYTHONPATH": "{tmp}/src:{tmp}/gone:relative"}, {"PYTHONNOUSERSITE": "1"}]
)
def test_the_search_path_is_the_interpreters_own(tmp_path, monkeypatch, system_site, extra):
    prefix = virtualenv(tmp_path / "env", *(["--system-site-packages"] if system_site else []))
    for folder in ("src", "relative", "listed", "home"):
        (tmp_path / folder).mkdir()
    environ = clean_environ(HOME=str(tmp_path / "home"), PWD=str(tmp_path), VIRTUAL_ENV=prefix)
    environ.update({key: value.format(tmp=tmp_path) for key, value in extra.items()})
    monkeypatch.chdir(tmp_path)
    target = find_target(LiveRoot(environ))
    minor = target.minor
    write(tmp_path / f"home/.local/lib/python{minor}/site-packages", {"mine.pth": f"{tmp_path}/src\n"})
    site = target.path[-1] if not system_site else f"{prefix}/lib/python{minor}/site-packages"
    write(
        site, {"b.pth": f"# no\n\nimport os; os.getpid()\n{tmp_path}/listed\n../missing\n{tmp_path}/listed\n"}
    )
    target = find_target(LiveRoot(environ))
    expected, base = real_path(prefix, environ)
    assert target.path == expected
    assert target.kind == "venv"
    assert target.prefix == prefix
    assert os.path.realpath(target.base_prefix) == os.path.realpath(base)
    origins = {site.path: site.origin for site in target.site_packages}
    assert origins[site] == "site"
    assert origins[f"{tmp_path}/listed"] == "pth"
    if "PYTHONPATH" in extra:
        assert origins[f"{tmp_path}/src"] == "PYTHONPATH"


def test_nothing_there_is_none(tmp_path):
    assert find_target(folder_root(tmp_path, {"etc/passwd": ""})) is None


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ({"prefix": "/opt/none"}, "prefix /opt/none is not a folder"),
        ({"prefix": "/opt/empty"}, "no Python under prefix /opt/empty: /opt/empty/bin/python3 is not there"),
        ({"python": "/opt/none/bin/python"}, "interpreter /opt/none/bin/python is not there"),
        ({"python": "python9.9"}, "python9.9 is not on PATH"),
        ({"python": "/opt/empty"}, "/opt/empty is a folder, not an interpreter; name it with --prefix"),
    ],
)
def test_what_was_named_must_be_there(tmp_path, named, reason):
    root = folder_root(tmp_path, {"opt/empty": None, **CPYTHON})
    with pytest.raises(TargetError) as caught:
        find_target(root, **named)
    assert str(caught.value) == reason


def test_a_folder_without_path_is_looked_through_in_the_usual_places(tmp_path):
    root = folder_root(tmp_path, CPYTHON)
    (tmp_path / "usr/bin/python3").symlink_to("python3.11")
    target = find_target(root)
    assert (target.prefix, target.kind, target.minor) == ("/usr", "system", "3.11")


def test_debian_has_dist_packages_before_and_after(tmp_path):
    folders = ["usr/local/lib/python3.11/dist-packages", "usr/lib/python3/dist-packages"]
    root = folder_root(tmp_path, {**CPYTHON, **dict.fromkeys(folders)})
    target = find_target(root, python="/usr/bin/python3.11")
    assert target.path == ["/" + folder for folder in folders]


def test_fedora_puts_pip_under_usr_local(tmp_path):
    files = {
        "usr/bin/python3.12": b"\x7fELF",
        "usr/lib64/python3.12/os.py": "",
        "usr/lib64/python3.12/site.py": "if 'RPM_BUILD_ROOT' not in os.environ: ...",
    }
    folders = [
        "usr/local/lib64/python3.12/site-packages",
        "usr/local/lib/python3.12/site-packages",
        "usr/lib64/python3.12/site-packages",
        "usr/lib/python3.12/site-packages",
    ]
    target = find_target(
        folder_root(tmp_path, {**files, **dict.fromkeys(folders)}), python="/usr/bin/python3.12"
    )
    assert target.path == ["/" + folder for folder in folders]


def conda_tree(prefix):
    return {
        f"{prefix}/bin/python3.11": b"\x7fELF",
        f"{prefix}/lib/python3.11/os.py": "",
        f"{prefix}/lib/python3.11/site-packages": None,
        f"{prefix}/conda-meta/history": "",
    }


def test_an_active_conda_environment_comes_before_path_and_after_a_venv(tmp_path):
    files = {**CPYTHON, **conda_tree("opt/conda"), **conda_tree("opt/conda/envs/train")}
    root = folder_root(tmp_path, files, PATH="/usr/bin", CONDA_PREFIX="/opt/conda/envs/train")
    target = find_target(root)
    assert (target.kind, target.prefix) == ("conda", "/opt/conda/envs/train")
    assert target.path == ["/opt/conda/envs/train/lib/python3.11/site-packages"]
    venv = {"v/bin/python": b"\x7fELF", "v/pyvenv.cfg": "home = /opt/conda/bin\nversion = 3.11.9\n"}
    root = folder_root(tmp_path, venv, VIRTUAL_ENV="/v", CONDA_PREFIX="/opt/conda")
    target = find_target(root)
    assert (target.kind, target.prefix, target.base_prefix) == ("venv", "/v", "/opt/conda")


def test_a_stale_variable_does_not_hide_the_python_on_path(tmp_path):
    root = folder_root(tmp_path, conda_tree("opt/conda"), VIRTUAL_ENV="/gone", PATH="relative:/opt/conda/bin")
    (tmp_path / "opt/conda/bin/python3").symlink_to("/opt/conda/bin/python3.11")
    target = find_target(root)
    assert (target.prefix, target.passed_over) == ("/opt/conda", ("VIRTUAL_ENV",))
    assert find_target(root, prefix="/opt/conda").passed_over == ()
    seen = read_python(root, target)
    reason = "VIRTUAL_ENV names no folder with a Python in it; /opt/conda was taken instead"
    assert seen.unobserved["python.VIRTUAL_ENV"] == reason
    assert seen.facts["python"]["prefix"] == "/opt/conda"


SHIM = "#!/usr/bin/env bash\nexport PYENV_ROOT=/p\nexec /p/libexec/pyenv exec python3\n"


@pytest.mark.parametrize(
    ("files", "environ", "prefix"),
    [
        ({"p/version": "3.11.7\n"}, {}, "/p/versions/3.11.7"),
        ({"p/version": "3.11.7\n"}, {"PYENV_VERSION": "3.12.1"}, "/p/versions/3.12.1"),
        (
            {"p/version": "3.11.7\n", "w/.python-version": "3.12.1\n"},
            {"PWD": "/w/deep"},
            "/p/versions/3.12.1",
        ),
        ({"p/version": "3.11\n", "p/versions/3.11.10/bin/python3": b"\x7fELF"}, {}, "/p/versions/3.11.10"),
        ({"p/version": "system\n", **CPYTHON, "usr/bin/python3": b"\x7fELF"}, {}, "/usr"),
    ],
)
def test_pyenv_shims_are_resolved_by_its_files(tmp_path, files, environ, prefix):
    made = {"p/shims/python3": SHIM, "w/deep": None}
    for version in ("3.11.7", "3.12.1"):
        made[f"p/versions/{version}/bin/python3"] = b"\x7fELF"
    root = folder_root(tmp_path, {**made, **files}, PATH="/p/shims:/usr/bin", **environ)
    assert find_target(root).prefix == prefix


def test_a_venv_of_free_threaded_python(tmp_path):
    files = {
        "b/bin/python3.13t": b"\x7fELF",
        "b/lib/python3.13t/os.py": "",
        "v/pyvenv.cfg": "home = /b/bin\nversion = 3.13.0\n",
        "v/bin": None,
        "v/lib/python3.13t/site-packages": None,
    }
    root = folder_root(tmp_path, files)
    (tmp_path / "v/bin/python").symlink_to("/b/bin/python3.13t")
    target = find_target(root, prefix="/v")
    assert target.free_threaded
    assert target.minor == "3.13"
    assert target.base_prefix == "/b"
    assert target.path == ["/v/lib/python3.13t/site-packages"]


def test_an_unknown_home_leaves_the_user_site_open(tmp_path):
    site = {"root/.local/lib/python3.11/site-packages": None}
    assert (
        find_target(folder_root(tmp_path, {**CPYTHON, **site}), python="/usr/bin/python3.11").user_site
        is None
    )
    root = folder_root(tmp_path, {}, HOME="/root")
    assert find_target(root, python="/usr/bin/python3.11").user_site.startswith("/root/.local/")


def test_finders_of_editable_installs_tell_where_their_modules_lie(tmp_path):
    site = "usr/lib/python3.11/site-packages"
    files = {
        f"{site}/__editable__.acme-1.0.pth": "import __editable___acme_1_0_finder; __editable___acme_1_0_finder.install()",
        f"{site}/__editable___acme_1_0_finder.py": "MAPPING: dict[str, str] = {'acme': '/src/acme/acme'}\nNAMESPACES = {}\n",
    }
    target = find_target(folder_root(tmp_path, {**CPYTHON, **files}), python="/usr/bin/python3.11")
    assert [(s.path, s.origin) for s in target.site_packages][-1] == ("/src/acme", "editable")
    assert "/src/acme" not in target.path


def test_hostile_files_cost_nothing_but_themselves(tmp_path):
    site = "usr/lib/python3.11/site-packages"
    files = {
        f"{site}/a.pth": b"\xff\xfe\x00/etc\n\x00\n../../../../../../../etc\n",
        f"{site}/loop.pth": None,
        "etc/passwd": "",
    }
    root = folder_root(tmp_path, {**CPYTHON, **files})
    (tmp_path / site / "b.pth").symlink_to("b.pth")
    target = find_target(root, python="/usr/bin/python3.11")
    assert target.path == ["/" + site, "/etc"]
