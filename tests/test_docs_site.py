"""The documentation site: every transcript is true, every page is built without a warning, no field is left out."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import msgspec
import pytest

import envlock
from envlock.cli import group
from envlock.manifest import model
from envlock.rules.engine import all_rules
from tools import fill_docs, make_docs

TOP = Path(__file__).parent.parent
DOCS = TOP / "docs"


@pytest.mark.parametrize("page", fill_docs.pages(), ids=lambda page: str(page.relative_to(DOCS)))
def test_the_transcripts_of_a_page_are_what_its_commands_print(page):
    assert fill_docs.filled(page) == page.read_text(encoding="utf-8"), "run python tools/fill_docs.py"


@pytest.mark.parametrize("written", ["a\n...\nd\n", "a\nb\nc\nd\n", "...\n"])
def test_three_dots_stand_for_any_lines(written):
    assert fill_docs.agrees(written, "a\nb\nc\nd\n")
    assert not fill_docs.agrees(written, "b\nx\n") or written == "...\n"


def commands():
    for page in [*fill_docs.pages(), TOP / "README.md"]:
        for command in fill_docs.scripts(page.read_text(encoding="utf-8")):
            yield pytest.param(command, id=f"{page.name}: {command[:60]}")


@pytest.mark.parametrize("command", list(commands()))
def test_what_a_page_cannot_run_is_a_command_with_options_that_exist(command):
    words = shlex.split(command)[1:]
    context = click.Context(group, info_name="envlock")
    where = group
    while isinstance(where, click.Group):
        where = where.get_command(context, words.pop(0))
        assert where is not None, command
    try:
        where.make_context("envlock", words)
    except click.UsageError as error:
        pytest.fail(f"{command}: {error.format_message()}")


def test_the_site_is_built_without_a_warning(tmp_path):
    environ = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"}
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"],
        cwd=TOP, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rules = (tmp_path / "site/reference/rules/index.html").read_text(encoding="utf-8")
    assert all(f'id="{rule.name}"' in rules for rule in all_rules())
    assert (tmp_path / "site/reference/matrix/torch/index.html").exists()


def test_generated_pages_hold_what_comes_from_outside_as_text():
    assert make_docs._cell("a|b <script>*x*") == r"a\|b &lt;script&gt;\*x\*"


def test_the_manifest_s_page_holds_every_field_and_is_a_manifest(tmp_path):
    page = (DOCS / "reference/manifest.md").read_text(encoding="utf-8")
    text = re.search(r"<!-- every field of the manifest -->\n```toml\n(.*?)```", page, re.DOTALL)[1]
    (tmp_path / "env.toml").write_text(text)
    manifest = envlock.load(str(tmp_path / "env.toml"))
    tables = [
        each for each in vars(model).values() if isinstance(each, type) and issubclass(each, model.Table)
    ]
    named = {field.name for table in tables for field in msgspec.structs.fields(table)}
    missing = {name for name in named if not re.search(rf"\b{name}\b( =|\]|\.)", text)}
    assert not missing
    assert manifest.lock.waiver[0].address == "library.cudnn"


def test_the_stand_ins_for_other_programs_are_shell(tmp_path):
    for tool in (DOCS / "files/bin").iterdir():
        assert subprocess.run([shutil.which("sh"), "-n", tool], check=False).returncode == 0
