"""``envlock explain``: what a rule means."""

from __future__ import annotations

import click

from envlock.cli import options


@click.command("explain")
@click.argument("rule", required=False)
@options.OUTPUT
def command(rule: str | None, output: str | None) -> None:
    """Say what a rule means, how it shows itself, how to fix it, and where that is known from.

    Without a rule, list them all.
    """
    from envlock.cli.output import emit
    from envlock.rules.engine import all_rules, find_rule

    if rule is None:
        width = max(len(each.name) for each in all_rules())
        lines = [f"{each.name:<{width}}  {each.explanation.partition(chr(10))[0]}" for each in all_rules()]
        emit("\n".join(lines) + "\n", output)
        return
    found = find_rule(rule)
    emit(f"{found.name} ({found.severity}, layer {found.layer})\n\n{found.explanation}\n", output)
