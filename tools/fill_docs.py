"""Runs every transcript of docs/ and puts the true output under its commands; ``--check`` only compares.

A transcript is a fenced ``console`` block: lines that begin with "$ " are commands, what follows is what they print.
The commands of a page run one after the other in one folder that holds examples/*.toml and docs/files/;
``docker save`` gives the images app and app-pr (docs/files/bin). A line "..." stands for any lines. What needs a
cluster or a network is a ``bash`` block; that its envlock commands exist, with their options, is checked.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TOP = Path(__file__).parent.parent
DOCS = TOP / "docs"
CONSOLE = re.compile(r"^( *)```console\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
SCRIPT = re.compile(r"^( *)```bash\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
SECONDS = 60
TORCH = '__version__ = "2.9.1+cu128"\ncuda = "12.8"\nhip = None\n'


class Step(NamedTuple):
    """A command of a transcript and the lines that stand under it."""

    command: str
    printed: str


def pages() -> list[Path]:
    """Return the pages that people wrote."""
    return sorted(DOCS.rglob("*.md"))


def steps(block: str) -> list[Step]:
    """Cut a transcript into its commands; a line that ends in a backslash goes on."""
    found: list[list[str]] = []
    lines = block.splitlines()
    while lines:
        line = lines.pop(0)
        if line.startswith("$ "):
            command = line[2:]
            while command.endswith("\\"):
                command += "\n" + lines.pop(0)
            found.append([command])
        elif found:
            found[-1].append(line)
        else:
            raise ValueError(f"a transcript begins with its command, not with {line!r}")
    return [Step(each[0], "".join(f"{line}\n" for line in each[1:])) for each in found]


def agrees(written: str, printed: str) -> bool:
    """Tell whether what is written is what was printed; a line "..." stands for any lines."""
    parts = [re.escape(part) for part in re.split(r"^\.\.\.\n", written, flags=re.MULTILINE)]
    return re.fullmatch(r"(?:.*\n)*?".join(parts), printed) is not None


class Sandbox:
    """The folder that a page's commands run in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        home = folder.parent / "home"
        home.mkdir()
        tools = folder.parent / "bin"
        shutil.copytree(DOCS / "files", folder)
        shutil.move(folder / "bin", tools)
        for example in (TOP / "examples").glob("*.toml"):
            shutil.copy(example, folder)
        images = folder.parent / "images"
        images.mkdir()
        make_image(images / "app.tar", numpy="1.26.4")
        make_image(images / "app-pr.tar", numpy="2.3.5")
        (tools / "envlock").write_text(f'#!/bin/sh\nexec {sys.executable} -m envlock "$@"\n')
        (tools / "python3").symlink_to(sys.executable)
        for tool in tools.iterdir():
            tool.chmod(0o755)
        kept = {key: os.environ[key] for key in ("LD_LIBRARY_PATH",) if key in os.environ}
        self.environ = {
            **kept,
            "PATH": f"{tools}:/usr/bin:/bin",
            "HOME": str(home),
            "PYTHONPATH": str(TOP),
            "COLUMNS": "100",
            "LC_ALL": "C.UTF-8",
            "IMAGES": str(images),
        }

    def run(self, command: str) -> str:
        """Run one command in a shell; return what a terminal shows."""
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], cwd=self.folder, env=self.environ, text=True, timeout=SECONDS,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        # Two is for what could not be done: no page shows that, unless it shows the sentence too.
        if done.returncode not in (0, 1) and not re.search("^envlock: ", done.stdout, re.MULTILINE):
            raise RuntimeError(f"{command}: exit code {done.returncode}\n{done.stdout}")
        return done.stdout


def make_image(path: Path, numpy: str) -> None:
    """Write an image that the pages are about: a docker archive with a venv in it."""
    from tests.image_support import docker_archive, file, layer, link
    from tests.packages_support import below, dist_info

    venv, site = "opt/venv", "opt/venv/lib/python3.12/site-packages"
    base = {
        "etc/os-release": "ID=ubuntu\nVERSION_ID=24.04\n",
        "usr/bin/python3.12": "\x7fELF",
        "usr/include/python3.12/patchlevel.h": '#define PY_VERSION "3.12.3"\n',
        f"{venv}/pyvenv.cfg": "home = /usr/bin\nversion = 3.12.3\n",
    }
    packages = {
        **dist_info("torch", "2.9.1+cu128", {"torch/version.py": TORCH}, requires=["numpy"]),
        **dist_info("numpy", numpy),
        **dist_info("numba", "0.60.0", requires=["numpy<2.1,>=1.22"]),
        **dist_info("webdataset", "1.0.2", requires=["numpy"]),
    }
    system = layer(
        *(file(name, text) for name, text in base.items()), link(f"{venv}/bin/python3", "/usr/bin/python3.12")
    )
    installed = layer(*(file(name, content) for name, content in below(site, packages).items()))
    docker_archive(path, system, installed, env=[f"VIRTUAL_ENV=/{venv}", f"PATH=/{venv}/bin:/usr/bin"])


def fill(text: str, sandbox: Sandbox) -> str:
    """Return a page with each transcript as it really goes; what agrees stays as it is written."""

    def block(match: re.Match[str]) -> str:
        margin = match[1]
        lines = [line.removeprefix(margin) for line in match[2].splitlines(keepends=True)]
        made = ""
        for step in steps("".join(lines)):
            printed = sandbox.run(step.command)
            kept = step.printed if agrees(step.printed, printed) else printed
            made += f"$ {step.command}\n{kept}"
        indented = "".join(margin + line if line.strip() else line for line in made.splitlines(keepends=True))
        return f"{margin}```console\n{indented}{margin}```"

    return CONSOLE.sub(block, text)


def filled(page: Path) -> str:
    """Return a page of docs/ as it should be."""
    with tempfile.TemporaryDirectory() as name:
        return fill(page.read_text(encoding="utf-8"), Sandbox(Path(name) / "work"))


def scripts(text: str) -> Iterator[str]:
    """Yield the envlock commands of a page's ``bash`` blocks, one line each."""
    for match in SCRIPT.finditer(text):
        whole = match[2].replace("\\\n", " ")
        for line in whole.splitlines():
            yield from re.findall(r"(?:^|[|;&(] *|\s)(envlock [^|;&<>#)]*)", line)


def main() -> None:
    """Fill, or compare."""
    stale = []
    named = [Path(each).resolve() for each in sys.argv[1:] if not each.startswith("-")]
    for page in named or pages():
        text = filled(page)
        if text != page.read_text(encoding="utf-8"):
            stale.append(str(page.relative_to(TOP)))
            if "--check" not in sys.argv:
                page.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"{'stale' if '--check' in sys.argv else 'filled'}: {name}")
    sys.exit(1 if stale and "--check" in sys.argv else 0)


if __name__ == "__main__":
    sys.path.insert(0, str(TOP))
    main()
