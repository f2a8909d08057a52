"""uv.lock by the real uv: what it syncs is what verify calls fine, and every change of it is drift."""

import subprocess
import sys

import pytest

import envlock
from envlock.locks.model import LockFileError
from tests.locks.support import drift, manifest, reference, uv
from tests.packages_support import wheel

PROJECT = """
[project]
name = "app"
version = "0.1"
requires-python = ">=3.9"
dependencies = ["alpha", "omega; sys_platform == 'win32'"]
[project.optional-dependencies]
cpu = ["gamma==1.0"]
gpu = ["gamma==2.0"]
[dependency-groups]
dev = ["delta"]
docs = ["epsilon"]
[tool.uv]
conflicts = [[{ extra = "cpu" }, { extra = "gpu" }]]
[build-system]
requires = []
build-backend = "back"
backend-path = ["."]
"""
BACKEND = """
import sys
sys.path.insert(0, {tests!r})
from tests.packages_support import wheel
def get_requires_for_build_editable(settings=None): return []
def build_editable(folder, settings=None, metadata=None):
    return wheel(folder, "app", "0.1", requires=["alpha"]).rpartition("/")[2]
build_wheel = build_editable
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with extras that exclude each other, groups, and a wheelhouse instead of an index."""
    from tests.cli.support import TOP

    top = tmp_path_factory.mktemp("uv")
    house = top / "house"
    wheel(house, "alpha", "1.0", requires=["beta>=1; python_version >= '3'"])
    for name, version in (("beta", "1.1"), ("beta", "1.2"), ("gamma", "1.0"), ("gamma", "2.0"), ("delta", "1.0"),
                          ("epsilon", "1.0"), ("omega", "1.0"), ("stray", "1.0")):  # fmt: skip
        wheel(house, name, version)
    (top / "app").mkdir()
    (top / "app" / "pyproject.toml").write_text(PROJECT)
    (top / "app" / "back.py").write_text(BACKEND.format(tests=str(TOP)))
    uv("lock", "--no-index", "--find-links", house, "--python", sys.executable, cwd=top / "app")
    return top


def sync(project, *options):
    uv("sync", "--frozen", "--no-index", "--find-links", project / "house", "--python", sys.executable, *options,
       cwd=project / "app")  # fmt: skip
    return envlock.capture(prefix=str(project / "app" / ".venv"))


def told(project, current, **chosen):
    text = (project / "app" / "uv.lock").read_text()
    return drift(project / "app", "uv.lock", text, current, **chosen)


def test_what_uv_syncs_is_what_the_lock_says(project):
    current = sync(project)
    assert {"alpha", "beta", "delta", "app"} <= current.package.pip.keys()
    assert told(project, current) == []
    assert told(project, current, groups=["dev"]) == []
    # The default group may be left out as long as nobody asks for it.
    lean = sync(project, "--no-dev")
    assert told(project, lean) == []
    assert told(project, lean, groups=["dev"]) == [("package.pip.delta", "removed")]


def test_extras_that_exclude_each_other(project):
    current = sync(project, "--extra", "gpu")
    assert current.package.pip["gamma"].version == "2.0"
    assert told(project, current, extras=["gpu"]) == []
    assert told(project, current, extras=["cpu"]) == [("package.pip.gamma", "version")]
    assert told(project, current) == [("package.pip.gamma", "added")]


def test_groups(project):
    current = sync(project, "--group", "docs", "--no-default-groups")
    assert told(project, current, groups=["docs"]) == []
    assert told(project, current, groups=["docs", "dev"]) == [("package.pip.delta", "removed")]
    with pytest.raises(LockFileError, match="no group 'doc': it has dev, docs"):
        told(project, current, groups=["doc"])


def test_seeded_drifts_are_those_that_uv_itself_would_undo(project):
    sync(project)
    prefix = project / "app" / ".venv"
    uv(
        "pip",
        "install",
        "--no-index",
        "--find-links",
        project / "house",
        "beta==1.1",
        "stray",
        "--prefix",
        prefix,
    )
    uv("pip", "uninstall", "alpha", "--python", prefix / "bin" / "python")
    assert told(project, envlock.capture(prefix=str(prefix))) == [
        ("package.pip.alpha", "removed"),
        ("package.pip.beta", "version"),
        ("package.pip.stray", "added"),
    ]
    check = [sys.executable, "-m", "uv", "sync", "--check", "--frozen", "--no-index", "--find-links",
             str(project / "house"), "--python", sys.executable]  # fmt: skip
    asked = subprocess.run(check, cwd=project / "app", capture_output=True, text=True, check=False)
    assert asked.returncode == 1
    assert {line.split("==")[0].strip() for line in asked.stderr.splitlines() if line.startswith((" +", " -"))} == {
        "+ alpha", "- beta", "+ beta", "- stray",
    }  # fmt: skip


def test_a_direct_install_is_another_origin(project):
    sync(project)
    prefix = project / "app" / ".venv"
    uv("pip", "install", "--no-deps", project / "house" / "alpha-1.0-py3-none-any.whl", "--reinstall",
       "--python", prefix / "bin" / "python")  # fmt: skip
    assert told(project, envlock.capture(prefix=str(prefix))) == [("package.pip.alpha", "origin")]


GIT = """
version = 1
requires-python = ">=3.12"
[[package]]
name = "app"
version = "0.1"
source = { virtual = "." }
dependencies = [{ name = "lib" }]
[[package]]
name = "lib"
version = "1.0"
source = { git = "https://github.com/acme/lib?rev=main#%s" }
"""
COMMIT = "1f0c2ab" * 5 + "1f0c2"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (f"git+https://github.com/acme/lib.git@{COMMIT}", []),
        (f"git+ssh://git@github.com/acme/lib@{COMMIT}", []),
        (f"git+https://github.com/acme/lib@{'0' * 40}", [("package.pip.lib", "origin")]),
        (f"git+https://github.com/fork/lib@{COMMIT}", [("package.pip.lib", "origin")]),
        ("/home/me/lib", [("package.pip.lib", "origin")]),
        ("", [("package.pip.lib", "origin")]),
    ],
)
def test_git_sources_are_one_where_place_and_commit_are(tmp_path, source, expected):
    tail = f', source = "{source}"' if source else ""
    current = manifest({"lib": f'{{ version = "1.0"{tail} }}'})
    assert drift(tmp_path, "uv.lock", GIT % COMMIT, current) == expected


def test_another_python_than_the_lock_was_made_for(tmp_path):
    text = 'version = 1\nrequires-python = ">=3.13"\n'
    assert drift(tmp_path, "uv.lock", text, manifest()) == [("python.version", "value")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version = 2\n", "uv.lock:1: version: version 2 is not known"),
        ("version = 1\npackage = 3\n", "package: expected a list, got int"),
        ("version = 1\n[[package]]\nname = 3\n", "expected text, got int"),
        ('version = 1\n[[package]]\nname = "a"\nsource = "x"\n', "source: expected a table"),
        (
            GIT % COMMIT + 'dependencies = [{ name = "gone" }]\n',
            "gone: a dependency that the file does not hold",
        ),
        (GIT % COMMIT + 'dependencies = [{ name = "app", marker = "python ?" }]\n', "marker"),
        (GIT % COMMIT + "dependencies = [3]\n", "expected a table, got int"),
        ("version = \n", "uv.lock:1: not TOML"),
    ],
)
def test_broken_files_say_where(tmp_path, text, message):
    with pytest.raises(LockFileError) as caught:
        drift(tmp_path, "uv.lock", text, manifest())
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_circle_of_dependencies_ends(tmp_path):
    text = (
        GIT % COMMIT
        + 'dependencies = [{ name = "lib", extra = ["x"] }]\n[package.optional-dependencies]\nx = [{ name = "lib" }]\n'
    )
    assert drift(tmp_path, "uv.lock", text, manifest()) == [("package.pip.lib", "removed")]


def test_a_marker_that_needs_what_was_not_seen_is_not_decided(tmp_path):
    text = GIT.replace('name = "lib" }', 'name = "lib", marker = "platform_machine == \'x86_64\'" }') % COMMIT
    head = 'schema = "envlock/1"\n[python]\nversion = "3.12.3"\n'
    from envlock.locks.compare_installed import verify

    result = verify(reference(tmp_path, "uv.lock", text), manifest(head=head))
    assert result.drift == ()
    assert ["platform_machine" in each.needs for each in result.unknown] == [True]
