"""Options and arguments that several commands share, and how they become a manifest."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from envlock.manifest.model import Manifest
    from envlock.probe.root import Root
    from envlock.reports.style import Style

F = TypeVar("F", bound=Callable[..., Any])

JSON = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object (schemas/report.schema.json)."
)
FORMATS = ("text", "json", "markdown", "html")
DOCUMENTS = ("markdown", "html")
"""Formats that are read elsewhere than in a terminal."""

CI_FORMATS = ("github", "gitlab", "sarif", "junit")
"""Formats that a CI system reads of a check or a verify."""

_FORMAT_HELP = (
    "text (the default), json, markdown for a pull request, or html: one file that needs nothing else"
)
FORMAT = click.option("--format", "form", type=click.Choice(FORMATS), help=f"{_FORMAT_HELP}.")
FORMAT_OR_CI = click.option(
    "--format",
    "form",
    type=click.Choice([*FORMATS, *CI_FORMATS]),
    help=f"{_FORMAT_HELP}; for CI github (annotations; the default under GitHub Actions), gitlab (Code Quality), "
    "sarif or junit.",
)
OUTPUT = click.option("-o", "--output", metavar="FILE", help="Write to FILE instead of standard output.")


def _with_project_file(
    _context: click.Context, _option: click.Parameter, files: tuple[str, ...]
) -> tuple[str, ...]:
    from envlock.matrix.loader import project_files

    return (*project_files(""), *files)


MATRIX = click.option(
    "--matrix",
    multiple=True,
    metavar="FILE",
    callback=_with_project_file,
    help="TOML file with further or changed matrix rows; repeatable. envlock-matrix.toml in the working folder "
    "counts without being named.",
)


def chosen_format(form: str | None, as_json: bool) -> str:
    """Return what --format and its short form --json ask for together; text where neither was given."""
    if as_json and form not in (None, "json"):
        raise click.UsageError(f"--json is short for --format json; --format {form} was given too.")
    return "json" if as_json else form or "text"


def environment(function: F) -> F:
    """Add --python and --prefix: which environment to look at."""
    python = click.option("--python", metavar="EXE", help="The interpreter whose environment is meant.")
    prefix = click.option("--prefix", metavar="DIR", help="The venv or conda prefix that is meant.")
    return python(prefix(function))


def style() -> Style:
    """Return the style for standard output."""
    from envlock.reports.style import Style, wants_colour

    return Style(colour=wants_colour(sys.stdout))


def manifest_or_live(
    path: str | None, python: str | None, prefix: str | None, root: Root | None = None
) -> Manifest:
    """Read the manifest at a path, or capture the root (None: this machine) where no path is given."""
    import envlock

    if path is None and root is None:
        # From where the command runs: PWD may still say where its caller was (pre-commit and git run hooks so).
        python = os.path.abspath(python) if python and "/" in python else python
        prefix = os.path.abspath(prefix) if prefix else prefix
    if path is None:
        return envlock.capture(root, python=python, prefix=prefix, fork=True)
    if python or prefix:
        raise click.UsageError(
            "--python and --prefix choose an environment of this machine; a manifest was given."
        )
    return envlock.load(path)


@contextlib.contextmanager
def lines(path: str | None) -> Iterator[Iterable[str] | None]:
    """Open a log as a stream of bounded lines ("-" is standard input); None where no log is given."""
    from envlock.compare.logs import lines_of
    from envlock.errors import EnvlockError

    if path is None:
        yield None
        return
    try:
        # Descriptor 0 stays open: it is the caller's.
        stream = open(0 if path == "-" else path, "rb", closefd=path != "-")  # noqa: SIM115 - text closes it
    except OSError as error:
        raise EnvlockError(f"cannot read {path}: {error.strerror or error}") from None
    # Windows PowerShell writes UTF-16 where it redirects.
    wide = stream.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    with io.TextIOWrapper(stream, encoding="utf-16" if wide else "utf-8", errors="replace") as text:
        yield lines_of(text)


IMAGE = click.option(
    "--image",
    metavar="IMAGE",
    help='Look into an image: OCI layout, docker-archive, squashfs or SIF file ("-" is standard input).',
)
PLATFORM = click.option("--platform", metavar="OS/ARCH", help="Which image of a multi-platform index.")
ROOT = click.option("--root", metavar="DIR", help="Look into the file system mounted at DIR.")


@contextlib.contextmanager
def place(
    root: str | None, image: str | None, platform: str | None, *, whole: bool = False
) -> Iterator[Root | None]:
    """Open what is to be looked into; None stands for this machine. Raises EnvlockError.

    ``whole`` keeps every file of an image at hand, for a comparison of contents.
    """
    from envlock.errors import EnvlockError

    if root and image:
        raise click.UsageError("--root and --image exclude each other.")
    if platform and not image:
        raise click.UsageError("--platform goes with --image.")
    if root:
        from envlock.roots.folder import FolderRoot

        try:
            yield FolderRoot(root)
        except OSError as error:
            raise EnvlockError(f"cannot read {root}: {error.strerror or 'not a folder'}") from None
    elif image:
        from envlock.roots.image import open_image

        every = {"keep": lambda *_: True, "whole": True} if whole else {}
        with open_image(image, platform, **every) as opened:  # type: ignore[arg-type]
            yield opened
    else:
        yield None


def read_json(path: str) -> Any:
    """Read a JSON document from a file or standard input, bounded; raises EnvlockError."""
    import json

    from envlock.errors import EnvlockError
    from envlock.manifest.read import read_source

    name = "standard input" if path == "-" else path
    try:
        return json.loads(read_source(path))
    except json.JSONDecodeError as error:
        raise EnvlockError(f"{name}:{error.lineno}: not JSON: {error.msg}") from None
    except ValueError:  # the interpreter's limit on the digits of an integer
        raise EnvlockError(f"{name}: not a probe's output: a number out of any range") from None
    except RecursionError:
        raise EnvlockError(f"{name}: not a probe's output: nested too deeply") from None


def read_text(path: str) -> str:
    """Read text that people pasted, from a file or standard input; bytes that are not UTF-8 are replaced."""
    from envlock.errors import EnvlockError
    from envlock.imports import SIZE_LIMIT

    name = "standard input" if path == "-" else path
    try:
        with sys.stdin.buffer if path == "-" else open(path, "rb") as file:
            content = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise EnvlockError(f"cannot read {name}: {error.strerror or error}") from None
    return content.decode("utf-8", "replace")


def on_machine(manifest: Manifest, node: str | None, driver: str | None, gpus: tuple[str, ...]) -> Manifest:
    """Put a manifest onto the machine of another one, or onto one stated by hand; as it is where none is named."""
    import envlock
    from envlock.manifest.model import Capture, Driver, Gpu
    from envlock.manifest.model import Manifest as Empty
    from envlock.manifest.place import put_on

    if node and (driver or gpus):
        raise click.UsageError("--against-machine names a machine; --driver and --gpu state one by hand.")
    if node:
        return put_on(manifest, envlock.load(node))
    if driver or gpus:
        stated = Empty(
            capture=Capture(source="import"),
            driver=Driver(version=driver),
            gpu=tuple(Gpu(name=name) for name in gpus),
        )
        return put_on(manifest, stated)
    return manifest
