"""``envlock explain``: what a rule means, or what an error in a log points to."""

from __future__ import annotations

import sys

import click

from envlock.cli import options


@click.command("explain")
@click.argument("rule", required=False, metavar="[RULE | ENV.TOML]")
@click.option("--log", metavar="FILE", help='A log to explain; "-" is standard input.')
@options.JSON
@options.OUTPUT
@options.MATRIX
def command(
    rule: str | None, log: str | None, as_json: bool, output: str | None, matrix: tuple[str, ...]
) -> None:
    """Say what a rule means, how it shows itself, how to fix it, and where that is known from.

    Without a rule, list them all. With --log, name what the errors in a log point to; and with a manifest
    besides, which of these causes this stack confirms, which it rules out, and what is missing to decide.
    Exits with 1 where a cause is confirmed.
    """
    from envlock.cli.output import emit

    if log is not None:
        _explain_log(log, rule, as_json=as_json, output=output, matrix=matrix)
    elif as_json:
        raise click.UsageError("--json goes with --log; a rule's explanation is text.")
    else:
        emit(_explain_rule(rule), output)


def _explain_rule(rule: str | None) -> str:
    from envlock.rules.engine import all_rules, find_rule

    if rule is None:
        width = max(len(each.name) for each in all_rules())
        lines = [f"{each.name:<{width}}  {each.explanation.partition(chr(10))[0]}" for each in all_rules()]
        return "\n".join(lines) + "\n"
    found = find_rule(rule)
    return f"{found.name} ({found.severity}, layer {found.layer})\n\n{found.explanation}\n"


def _explain_log(
    log: str, manifest: str | None, *, as_json: bool, output: str | None, matrix: tuple[str, ...]
) -> None:
    import envlock
    from envlock.cli.output import emit
    from envlock.compare.explain import explain
    from envlock.matrix.loader import load
    from envlock.reports import log as report

    if log == "-" and manifest == "-":
        raise click.UsageError("The log and the manifest cannot both come from standard input.")
    stack = envlock.load(manifest) if manifest is not None else None
    with options.lines(log) as lines:
        result = explain(lines or (), load(matrix), stack)
    judged = stack is not None
    if as_json:
        emit(report.as_json(result, judged=judged), output)
    else:
        name = "the log" if log == "-" else log
        emit(report.as_text(result, options.style(), name, judged=judged), output)
    sys.exit(1 if result.verdict == "problem" else 0)
