"""Requirements files as pip reads them: includes, constraints, markers, hashes, places."""

import os

import pytest

from envlock.locks.model import LockFileError
from envlock.locks.requirements_txt import requirement
from tests.locks.support import compare, drift, manifest

A, B = "a" * 64, "b" * 64
NUMPY = {"numpy": "1.26.4"}


@pytest.mark.parametrize(
    ("line", "installed", "kind"),
    [
        ("numpy==1.26.4", "1.26.4", None),
        ("NumPy == 1.26.4  # why", "1.26.4", None),
        ("numpy==1.26", "1.26.0", None),
        ("numpy==1.26.*", "1.26.4", None),
        ("numpy==2.0", "2.0+cu124", None),
        ("numpy>=1.20,<2", "1.26.4", None),
        ("numpy>=2", "1.26.4", "version"),
        ("numpy==1.26.4; python_version < '3'", "9.9", None),
        ("numpy==1.26.3", "1.26.4", "version"),
        ("numpy~=1.26.0", "2.0rc1", "version"),
        ("numpy", "1.26.4", None),
    ],
)
def test_versions(tmp_path, line, installed, kind):
    expected = [("package.pip.numpy", kind)] if kind else []
    assert drift(tmp_path, "requirements.txt", line + "\n", manifest({"numpy": installed})) == expected


def test_includes_constraints_continuations_and_options(tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "base.txt").write_text(
        "-r ../requirements.txt\nidna==3.7 \\\n    --hash=sha256:" + A + "\n"
    )
    (tmp_path / "c.txt").write_text("certifi<2024\nabsent==1\n")
    text = f"""--index-url https://user:secret@host/simple
-r more/base.txt
-cc.txt
numpy==1.26.4 ; sys_platform == 'linux' \\
    --hash=sha256:{A} \\
    --hash=sha256:{B}
"""
    current = manifest({**NUMPY, "idna": "3.6", "certifi": "2025.1.1"})
    assert drift(tmp_path, "requirements.txt", text, current) == [
        ("package.pip.certifi", "version"),
        ("package.pip.idna", "version"),
    ]


def test_a_hash_is_unobserved_and_never_guessed(tmp_path):
    result = compare(tmp_path, "requirements.txt", f"numpy==1.26.4 --hash=sha256:{A}\n", manifest(NUMPY))
    assert result.drift == ()
    assert [each.address for each in result.unobserved] == ["package.pip.*.sha256"]


def test_beyond_the_list_is_drift_where_the_list_is_whole_and_a_note_where_not(tmp_path):
    current = manifest(
        {**NUMPY, "scipy": "1.13", "stray": "1", "pip": "24"}, requires={"scipy": ["numpy>=1"]}
    )
    whole = "numpy==1.26.4\nscipy==1.13\n"
    assert drift(tmp_path, "requirements.txt", whole, current) == [("package.pip.stray", "added")]
    for part in ("scipy==1.13\n", "scipy\nnumpy\n", "scipy[x]==1.13\nnumpy==1.26.4\n"):
        result = compare(tmp_path, "requirements.txt", part, current)
        assert result.drift == ()
        assert ["stray" in each.needs and "numpy" not in each.needs for each in result.unknown] == [True]


def test_what_is_asked_for_and_not_there(tmp_path):
    assert drift(tmp_path, "requirements.txt", "numpy\n", manifest({"pip": "24"})) == [
        ("package.pip.numpy", "removed")
    ]


COMMIT = "1f0c2ab" * 5 + "1f0c2"


@pytest.mark.parametrize(
    ("line", "source", "fits"),
    [
        (
            f"lib @ git+https://github.com/acme/lib@{COMMIT}",
            f"git+https://github.com/acme/lib@{COMMIT}",
            True,
        ),
        ("lib @ git+https://github.com/acme/lib@main", f"git+https://github.com/acme/lib@{COMMIT}", True),
        (
            "git+ssh://git@github.com/acme/lib.git@v1#egg=lib",
            f"git+https://github.com/acme/lib@{COMMIT}",
            True,
        ),
        (
            f"lib @ git+https://github.com/acme/lib@{'0' * 40}",
            f"git+https://github.com/acme/lib@{COMMIT}",
            False,
        ),
        (
            "lib @ https://u:p@h/lib-1.0-py3-none-any.whl#sha256=" + A,
            "https://h/lib-1.0-py3-none-any.whl",
            True,
        ),
        ("https://h/lib-1.0-py3-none-any.whl", "https://other/lib-1.0-py3-none-any.whl", False),
        ("./lib-1.0-py3-none-any.whl", "/elsewhere/lib-1.0-py3-none-any.whl", True),
        ("lib==1.0", "https://h/lib-1.0-py3-none-any.whl", True),
        ("lib @ https://h/lib-1.0.tar.gz", "", False),
    ],
)
def test_places(tmp_path, line, source, fits):
    tail = f', source = "{source}"' if source else ""
    current = manifest({"lib": f'{{ version = "1.0"{tail} }}'})
    assert (drift(tmp_path, "requirements.txt", line + "\n", current) == []) is fits


def test_an_editable_without_a_name_is_not_compared(tmp_path):
    result = compare(tmp_path, "requirements.txt", "-e ./src\nnumpy==1.26.4\n", manifest(NUMPY))
    assert result.drift == () and "has no name" in result.unknown[0].needs


def test_conda_s_package_satisfies_a_requirement(tmp_path):
    from tests.locks.support import conda

    current = manifest({"idna": "3"}, {"numpy": conda("1.26.4", "py312_0")})
    assert drift(tmp_path, "requirements.txt", "numpy==1.26.4\nidna\n", current) == []
    assert drift(tmp_path, "requirements.txt", "numpy==2\nidna\n", current) == [
        ("package.pip.numpy", "version")
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("numpy=1\n", "requirements.txt:1: not a requirement"),
        ("\n\nnumpy; python ~ 3\n", "requirements.txt:3: not a requirement"),
        ("-r gone.txt\n", "requirements.txt:1: cannot read gone.txt: No such file"),
        ("-r https://h/r.txt\n", "which is not fetched"),
        ("-r .\n", "which is no file"),
        ("numpy\x1b[2J==\n", "not a requirement"),
    ],
)
def test_broken_files_say_where(tmp_path, text, message):
    with pytest.raises(LockFileError) as caught:
        drift(tmp_path, "requirements.txt", text, manifest(NUMPY))
    assert message in str(caught.value)
    assert "\x1b" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LockFileError, match="which is no file"):
        drift(tmp_path, "requirements.txt", "-r pipe\n", manifest(NUMPY))


def test_many_files_that_include_each_other_are_bounded(tmp_path):
    for number in range(120):
        (tmp_path / f"r{number}.txt").write_text(f"-r r{number + 1}.txt\n")
    with pytest.raises(LockFileError, match="more than 100 files"):
        drift(tmp_path, "requirements.txt", "-r r0.txt\n", manifest(NUMPY))


def test_long_hostile_lines_end_soon():
    for line in ("a" * 200_000, "a==1;" + "(" * 5000, "./" + "x" * 100_000, "git+https://" + "@" * 50_000):
        try:
            requirement(line, "r:1", "r")
        except LockFileError as error:
            assert len(str(error)) < 1000
