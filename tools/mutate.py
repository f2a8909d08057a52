"""Mutation testing: changes one thing in the code at a time and counts which changes no test notices.

    python tools/mutate.py [--modules envlock/rules/*.py ...] [--tests tests/rules ...] [--every N] [--markdown FILE]

The tests are collected and run once; every mutant is a fork of that process in which one function's code object is
replaced, so that a decorated function (each rule is one) is mutated like any other, which mutmut leaves out. A mutant
gets tests that ran the statement it stands in (no other can notice it) or, where none was seen to, its function:
those of its module's own test file, then the quickest of the rest up to ``--others``, and dies at the first that fails
or after its time. It is counted as a survivor if none of these fails, so that the share killed is, if anything, too low.

What is cached is forgotten before each test, so that no test passes on what the unchanged code computed. Property
tests run a few fixed examples. Tests that start a process of their own see the code on disk and kill nothing; code
that only runs at import, and the data of a module's top level, is not mutated. ``--every 10`` takes every tenth.
"""

from __future__ import annotations
import __future__

import argparse
import ast
import contextlib
import copy
import datetime
import functools
import gc
import itertools
import os
import random
import signal
import sys
import time
import types
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

TOP = Path(__file__).parent.parent
MODULES = ("envlock/rules/*.py", "envlock/manifest/*.py", "envlock/locks/policy.py", "envlock/probe/elf.py")
TESTS = (
    "tests/rules",
    "tests/manifest",
    "tests/matrix",
    "tests/compare",
    "tests/locks/test_policy.py",
    "tests/locks/test_update.py",
    "tests/probe/test_elf.py",
    "tests/probe/test_loader.py",
    "tests/probe/test_libraries.py",
)

_ANNOTATIONS = __future__.annotations.compiler_flag

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip


class Mutant(NamedTuple):
    """One change to one function."""

    file: str
    line: int
    function: str
    what: str
    lines: range
    """of the statement that holds it, or of a compound statement's head"""
    code: types.CodeType | None
    """of the function, changed; None where Python does not take the change"""


Line = tuple[str, int]
"""A line of a file."""

STALE = 8
"""Calls of a function that bring a test no new line, after which its further calls are not watched."""

EXAMPLES = 25
"""Examples that a property test runs."""


def mutants(paths: Sequence[Path], every: int) -> Iterator[Mutant]:
    """Yield every Nth mutant of the modules' functions; text of docstrings and annotations stays."""
    number = itertools.count(1)
    for path in paths:
        yield from _mutants(path, number, every)


def _mutants(path: Path, number: Iterator[int], every: int) -> Iterator[Mutant]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    name = str(path.relative_to(TOP))
    for function, qualified, alone in _functions(tree, "", ()):
        for node, owner, field, lines in _nodes(function):
            for what, change in _changes(node):
                if next(number) % every:
                    continue
                new = ast.fix_missing_locations(change(copy.deepcopy(node)))
                _put(owner, field, node, new)
                code = _code(alone, str(path), qualified)
                _put(owner, field, new, node)
                yield Mutant(name, node.lineno, qualified, what, lines, code)


def _functions(
    node: ast.AST, prefix: str, classes: tuple[ast.ClassDef, ...]
) -> Iterator[tuple[ast.FunctionDef, str, ast.Module]]:
    """Yield functions with their qualified names, and modules that hold nothing but them and their class."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            alone: ast.stmt = child
            for each in reversed(classes):
                owner = copy.copy(each)
                owner.bases, owner.keywords, owner.decorator_list, owner.body = [], [], [], [alone]
                alone = owner
            yield child, prefix + child.name, ast.Module([alone], [])
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.", (*classes, child))


def _code(module: ast.Module, file: str, qualified: str) -> types.CodeType | None:
    try:
        compiled = compile(module, file, "exec", _ANNOTATIONS, dont_inherit=True)
    except (SyntaxError, ValueError, TypeError):
        return None
    waiting = [compiled]
    while waiting:
        code = waiting.pop()
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                if constant.co_qualname == qualified:
                    return constant
                waiting.append(constant)
    return None


def _nodes(function: ast.FunctionDef) -> Iterator[tuple[Any, Any, Any, range]]:
    """Yield what stands in a function's body, with its place and lines; annotations and docstrings left out."""
    waiting: list[tuple[ast.AST, Any, Any, range]] = [
        (each, function.body, None, range(0)) for each in function.body
    ]
    while waiting:
        node, owner, field, lines = waiting.pop(0)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        lines = _lines(node) or lines
        yield node, owner, field, lines
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "ctx", "decorator_list", "args") and not isinstance(
                node, ast.Call
            ):
                continue
            if isinstance(value, list):
                waiting += [(each, value, None, lines) for each in value if isinstance(each, ast.AST)]
            elif isinstance(value, ast.AST):
                waiting.append((value, node, name, lines))


def _lines(node: ast.AST) -> range | None:
    """Return the lines that run whenever a statement does: all of a simple one, the head of a compound one."""
    match node:
        case ast.If(test=head) | ast.While(test=head) | ast.For(iter=head) | ast.Match(subject=head):
            return range(node.lineno, (head.end_lineno or node.lineno) + 1)
        case ast.With(items=[*_, ast.withitem(context_expr=head)]):
            return range(node.lineno, (head.end_lineno or node.lineno) + 1)
        case ast.match_case(pattern=pattern, guard=guard):
            return range(pattern.lineno, ((guard or pattern).end_lineno or pattern.lineno) + 1)
        case ast.ExceptHandler():
            return range(node.lineno, node.lineno + 1)
        case ast.stmt():
            return range(node.lineno, (node.end_lineno or node.lineno) + 1)
    return None


def _put(owner: Any, field: str | None, old: ast.AST, new: ast.AST) -> None:
    if field is None:
        owner[next(place for place, each in enumerate(owner) if each is old)] = new
    else:
        setattr(owner, field, new)


def _set(name: str, value: Any) -> Callable[[Any], Any]:
    def change(node: Any) -> Any:
        setattr(node, name, value)
        return node

    return change


def _changes(node: ast.AST) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """Yield what can be done to a node: a word for it, and the function that does it."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in _COMPARISONS:
            other = _COMPARISONS[type(op)]
            yield f"{type(op).__name__} -> {other.__name__}", _set("ops", [other()])
        case ast.BoolOp(op=op):
            yield (
                ("and -> or", _set("op", ast.Or()))
                if isinstance(op, ast.And)
                else ("or -> and", _set("op", ast.And()))
            )
        case ast.UnaryOp(op=ast.Not()):
            yield "not removed", lambda changed: changed.operand
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in _OPERATORS:
            other_operator = _OPERATORS[type(op)]
            yield f"{type(op).__name__} -> {other_operator.__name__}", _set("op", other_operator())
        case ast.Constant(value=bool(value)):
            yield f"{value} -> {not value}", _set("value", not value)
        case ast.Constant(value=int(value)):
            yield f"{value} -> {value + 1}", _set("value", value + 1)
        case ast.Constant(value=str(value)):
            yield f"{value[:40]!r} -> with XX around", _set("value", f"XX{value}XX")
        case ast.Constant(value=bytes(value)):
            yield f"{value[:40]!r} -> with XX around", _set("value", b"XX" + value + b"XX")
        case ast.Break():
            yield "break -> continue", lambda _: ast.copy_location(ast.Continue(), node)
        case ast.Continue():
            yield "continue -> break", lambda _: ast.copy_location(ast.Break(), node)
        case ast.Return(value=ast.expr() as value) if not (
            isinstance(value, ast.Constant) and value.value is None
        ):
            yield "returns None", _set("value", ast.copy_location(ast.Constant(None), value))
        case ast.If(test=test) | ast.IfExp(test=test) if not isinstance(test, ast.Compare | ast.UnaryOp):
            yield "condition inverted", _set("test", ast.copy_location(ast.UnaryOp(ast.Not(), test), test))
        case ast.Expr(value=ast.Call() | ast.Yield() | ast.YieldFrom()):
            yield "statement removed", lambda _: ast.copy_location(ast.Pass(), node)
        case ast.Assign(value=value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield "assigns None", _set("value", ast.copy_location(ast.Constant(None), value))


class Recorder:
    """A pytest plugin that notes which lines each test runs through, and how long it takes."""

    def __init__(self, files: set[str]) -> None:
        self._files = files
        self.items: dict[str, Any] = {}
        self.through: dict[Line, set[str]] = defaultdict(set)
        self.called: dict[tuple[str, str], set[str]] = defaultdict(set)
        """Tests that called a function, by its file and qualified name: of its lines some may not have been watched."""
        self.seconds: dict[str, float] = {}

    def pytest_collection_finish(self, session: Any) -> None:
        self.items = {item.nodeid: item for item in session.items}
        for item in session.items:
            _make_short(item.obj)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Any:
        seen: set[Line] = set()
        wanted = self._files

        stale: Counter[types.CodeType] = Counter()

        def line(frame: Any, event: str, _: Any) -> Any:
            place = (frame.f_code.co_filename, frame.f_lineno)
            if event == "line" and place not in seen:
                seen.add(place)
                stale[frame.f_code] = 0
            return line

        def call(frame: Any, *_: Any) -> Any:
            code = frame.f_code
            if code.co_filename not in wanted or stale[code] > STALE:
                return None
            stale[code] += 1
            return line

        forget()
        start = time.perf_counter()
        sys.settrace(call)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            self.seconds[item.nodeid] = time.perf_counter() - start
            for each in seen:
                self.through[each].add(item.nodeid)
            for code in stale:
                self.called[code.co_filename, code.co_qualname].add(item.nodeid)


def _make_short(test: Any) -> None:
    """Have a property test run few examples, always the same, and look for no smaller one that fails."""
    if not getattr(test, "is_hypothesis_test", False):
        return
    from hypothesis import HealthCheck, Phase, settings

    function = getattr(test, "__func__", test)
    function._hypothesis_internal_use_settings = settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=tuple(HealthCheck),
    )


@functools.cache
def _caches() -> list[Any]:
    """Return the functions of envlock that cache."""
    kind = type(_caches)
    return [
        each for each in gc.get_objects() if isinstance(each, kind) and each.__module__.startswith("envlock.")
    ]


def forget() -> None:
    """Empty envlock's caches: what they hold was computed by the code as it was."""
    for each in _caches():
        each.cache_clear()


def live_functions(files: set[str]) -> dict[tuple[str, str], list[types.FunctionType]]:
    """Return the functions that are loaded from these files, by file and qualified name."""
    found: dict[tuple[str, str], list[types.FunctionType]] = defaultdict(list)
    for each in gc.get_objects():
        if isinstance(each, types.FunctionType) and each.__code__.co_filename in files:
            found[each.__code__.co_filename, each.__code__.co_qualname].append(each)
    return found


class Forks:
    """Runs tests in child processes, and knows which of them pass there when nothing is changed."""

    def __init__(self, items: dict[str, Any], seconds: dict[str, float]) -> None:
        self._items, self._seconds = items, seconds
        self._sound: dict[str, bool] = {}

    def kills(self, code: types.CodeType, functions: list[types.FunctionType], names: list[str]) -> bool:
        """Tell whether one of the tests fails, or takes too long, with the changed code."""
        names = [name for name in names if self._sound.get(name, True)]
        while names:
            at = self._first_failure(names, functions, code)
            if at is None:
                return False
            name = names[at]
            if name not in self._sound:
                # A test that does not pass again in a fork would kill whatever it is given.
                self._sound[name] = self._first_failure([name]) is None
                if not self._sound[name]:
                    print(f"left out, it fails unchanged: {name}", flush=True)
            if self._sound[name]:
                return True
            names = names[at + 1 :]
        return False

    def _first_failure(
        self,
        names: list[str],
        functions: Sequence[types.FunctionType] = (),
        code: types.CodeType | None = None,
    ) -> int | None:
        """Run tests in a fork; return the place of the first that does not pass."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                self._in_the_child(writing, names, functions, code)
            os._exit(1)
        os.close(writing)
        _, status = os.waitpid(child, 0)
        # One byte is written for each test that passed.
        passed = len(os.read(reading, len(names) + 1))
        os.close(reading)
        return None if status == 0 and passed == len(names) else passed

    def _in_the_child(
        self,
        writing: int,
        names: list[str],
        functions: Sequence[types.FunctionType],
        code: types.CodeType | None,
    ) -> None:
        gc.disable()
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        for function in functions:
            function.__code__ = code or function.__code__
        for name in names:
            # An endless loop is noticed by its processor time, so that a busy machine kills nothing; one that
            # waits for ever, by the clock.
            signal.setitimer(signal.ITIMER_PROF, 2 + 10 * self._seconds[name])
            signal.setitimer(signal.ITIMER_REAL, 60 + 10 * self._seconds[name])
            if not passes(self._items[name]):
                return
            os.write(writing, b".")
        os._exit(0)


def passes(item: Any) -> bool:
    """Run one collected test."""
    from _pytest.runner import runtestprotocol

    forget()
    reports = runtestprotocol(item, nextitem=None, log=False)
    return not any(report.failed for report in reports)


def main() -> None:
    """Run, print the survivors and the share that was killed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--modules", nargs="+", default=list(MODULES))
    parser.add_argument("--tests", nargs="+", default=list(TESTS))
    parser.add_argument("--minutes", type=float, default=60.0, help="stop trying mutants after this time")
    parser.add_argument("--keyword", default="", metavar="EXPR", help="take these tests only: pytest's -k")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every Nth mutant only")
    parser.add_argument(
        "--others", type=int, default=40, metavar="N", help="tests of other files for one mutant"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the counts and survivors here")
    options = parser.parse_args()
    sys.path.insert(0, str(TOP))
    os.chdir(TOP)
    paths = sorted({path for pattern in options.modules for path in TOP.glob(pattern)})
    recorder = Recorder({str(path) for path in paths})
    quiet = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        "--no-header",
        "-W",
        "ignore",
        "-k",
        options.keyword,
    ]

    class Then:
        """Goes on inside pytest's own session, where fixtures are alive."""

        # Before pytest itself takes the temporary folders away.
        @pytest.hookimpl(tryfirst=True)
        def pytest_sessionfinish(self, session: Any) -> None:
            del session
            report(options, paths, recorder)

    sys.exit(pytest.main([*quiet, *options.tests], plugins=[recorder, Then()]))


def report(options: argparse.Namespace, paths: list[Path], recorder: Recorder) -> None:
    """Try the mutants; print and write what came of them."""
    live = live_functions({str(path) for path in paths})
    forks = Forks(recorder.items, recorder.seconds)
    gc.collect()
    gc.freeze()
    result = Outcome(Counter(), Counter(), [])
    sample = list(mutants(paths, options.every))
    # In an order of chance, always the same: where time ends it, what was tried is still spread over all modules.
    random.Random(0).shuffle(sample)
    end = time.monotonic() + 60 * options.minutes
    for mutant in sample:
        if time.monotonic() > end:
            break
        file = str(TOP / mutant.file)
        functions, code = live[file, mutant.function], mutant.code
        if (
            code is None
            or not functions
            or any(code.co_freevars != each.__code__.co_freevars for each in functions)
        ):
            continue
        names = set().union(*(recorder.through[file, line] for line in mutant.lines))
        names = names or recorder.called[file, mutant.function]
        chosen = _chosen(names, mutant.file, recorder.seconds, options.others)
        result.total[mutant.file] += 1
        if forks.kills(code, functions, chosen):
            result.killed[mutant.file] += 1
        else:
            result.survivors.append((mutant, len(names)))
            print(f"{mutant.file}:{mutant.line}: {mutant.function}: {mutant.what} ({len(names)})", flush=True)
    print("\n".join(result.table()), flush=True)
    if options.markdown:
        options.markdown.write_text(result.markdown(options.every, len(sample)), encoding="utf-8")


def _chosen(names: set[str], file: str, seconds: dict[str, float], others: int) -> list[str]:
    """Return the tests to try: the module's own, then the quickest of the rest."""
    path = Path(file)
    own = ("/".join(["tests", *path.parts[1:-1], f"test_{path.name}"]), "tests/rules/test_golden.py")
    first = [name for name in names if name.startswith(own)]
    rest = sorted(names.difference(first), key=seconds.__getitem__)
    return sorted(first, key=seconds.__getitem__) + rest[:others]


class Outcome(NamedTuple):
    """How many mutants of a module were tried and killed, and those that lived with how many tests ran through them."""

    killed: Counter[str]
    total: Counter[str]
    survivors: list[tuple[Mutant, int]]

    def table(self) -> list[str]:
        """Return a Markdown table, the worst module first."""
        killed, total = self.killed, self.total
        rows = [
            (file, killed[file], total[file]) for file in sorted(total, key=lambda f: killed[f] / total[f])
        ]
        rows.append(("all", killed.total(), total.total()))
        lines = [f"| {file} | {dead} | {of} | {dead / max(of, 1):.0%} |" for file, dead, of in rows]
        return ["| module | killed | of | share |", "|---|---:|---:|---:|", *lines]

    def markdown(self, every: int, sample: int) -> str:
        """Return the page: what was tried on which day, the table, and the survivors by module and function."""
        taken = "every mutant" if every == 1 else f"every {every}th mutant in the order of the code"
        if self.total.total() < sample:
            taken = f"{self.total.total()} drawn by chance (the seed is fixed) from {taken}"
        lines = [
            "# Mutation testing",
            "",
            f"Written by `tools/mutate.py` on {datetime.date.today()}; tried: {taken}.",
            "The number after a survivor says how many tests run the statement it stands in.",
            "",
            *self.table(),
            "",
            "## Survivors",
        ]
        place: tuple[str, str] = ("", "")
        for mutant, tests in sorted(self.survivors, key=lambda each: each[0][:4]):
            if mutant.file != place[0]:
                lines += ["", f"### {mutant.file}", ""]
            if (mutant.file, mutant.function) != place:
                lines.append(f"- `{mutant.function}`")
                place = (mutant.file, mutant.function)
            lines.append(f"    - line {mutant.line}: `` {mutant.what} `` ({tests})")
        return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
