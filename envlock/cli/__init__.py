"""The envlock command: each command parses, calls the library, renders and exits.

Exit codes, for every command: 0 fine, 1 a problem was found, 2 the command could not do its work.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from envlock import __version__
from envlock.errors import EnvlockError

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMANDS = {
    "advise": "Say which builds of a framework would run here, and how to install them.",
    "capture": "Record the stack of this machine, a folder or an image as a manifest.",
    "check": "Say whether a stack can work.",
    "diff": "Say what differs between two stacks, and which difference is to blame.",
    "explain": "Say what a rule means, or what an error in a log points to.",
    "fleet": "Capture, compare and verify many machines at once.",
    "matrix": "Show and search the compatibility data, with its sources.",
    "export": "Write the packages back into a format that installers read.",
    "import": "Read a pasted bug report (collect_env, pip freeze ...) into a manifest.",
    "label": "Print the Dockerfile lines that bake a lock into its image.",
    "probe": "Print a script that records a machine without envlock on it.",
    "update": "Take the drift into a lock, keeping its comments and policy.",
    "verify": "Say whether this environment still matches its lock.",
    "which": "Say which copy of a native library would be loaded, and why.",
}
"""Command name to its one line of help; each is the function of that name in ``envlock.cli.<name>``."""


INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it (128 + SIGINT): neither fine nor a problem found."""


class LazyGroup(click.Group):
    """A group that imports a command's module only when it is run: start-up is most of a command's cost.

    ``table`` maps command names to their line of help; each is the function ``command`` of the module of that
    name in ``package``.
    """

    def __init__(self, *arguments: Any, package: str, table: Mapping[str, str], **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.package = package
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: D102 - click's own
        return sorted(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: D102
        if cmd_name not in self.table:
            return None
        import importlib
        import keyword

        # A command named like a Python keyword lives in a module with an underscore behind it.
        name = cmd_name + "_" if keyword.iskeyword(cmd_name) else cmd_name
        module = importlib.import_module(f"{self.package}.{name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: D102
        with formatter.section("Commands"):
            formatter.write_dl(sorted(self.table.items()))

    def resolve_command(  # noqa: D102 - click's own
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            near = get_close_matches(args[0], self.table, n=1)
            if not near:
                raise
            raise click.UsageError(f"{error.message} Did you mean {near[0]!r}?", ctx) from None


@click.group(
    cls=LazyGroup,
    package="envlock.cli",
    table=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="envlock")
def group() -> None:
    """Record the whole stack under a GPU program, check it, and name the difference that breaks it."""


def main() -> None:
    """Run the command line; every error becomes one sentence on stderr and exit code 2, never a traceback."""
    import gc

    # A command makes some hundred thousand small objects and ends: looking for cycles among them is lost time.
    gc.set_threshold(100_000, 50, 100)
    _open_closed_streams()
    try:
        sys.exit(group(prog_name="envlock", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("envlock: interrupted", err=True)
        sys.exit(INTERRUPTED)
    except EnvlockError as error:
        _complain(str(error))
    except BrokenPipeError:
        # The reader (head, less) has seen enough; keep the interpreter's own flush at exit quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        _complain(error.strerror or str(error))
    except MemoryError:
        _complain("out of memory")
    finally:
        gc.freeze()  # the interpreter would look through all of them once more before it ends


def _complain(message: str) -> NoReturn:
    from envlock.manifest.read import printable

    # A message may name what a stranger wrote: a file, a key, a value.
    click.echo(f"envlock: {printable(message)}", err=True)
    sys.exit(2)


def _open_closed_streams() -> None:
    """Put the null device where a standard stream is closed (``>&-``): the exit code still says the verdict.

    The descriptors are taken first, so that no file which is opened later becomes standard output.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 - lives as long as the process
            if stream.fileno() != number:
                os.dup2(stream.fileno(), number)
            setattr(sys, name, stream)
