"""Mutation testing: changes one thing in the code at a time and counts which changes no test notices.

    python tools/mutate.py [--modules envlock/rules/*.py ...] [--tests tests/rules ...] [--every N] [--json FILE]

The tests are collected once; every mutant is a fork of that process in which one function's code object is
replaced, so that a decorated function (each rule is one) is mutated like any other, which mutmut leaves out. A mutant
gets the tests that ran through its function, the quickest first, and dies at the first that fails or after its
time. Tests that start a process of their own see the code on disk and kill nothing. ``--every 10`` takes a tenth.
"""

from __future__ import annotations
import __future__

import argparse
import ast
import contextlib
import copy
import gc
import io
import json
import os
import signal
import sys
import time
import types
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
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
    code: types.CodeType | None
    """of the function, changed; None where Python does not take the change"""


Place = tuple[str, str]
"""A function of a module's top level or of a class: file, qualified name."""


def mutants(path: Path) -> Iterator[Mutant]:
    """Yield every mutant of a module's functions; text of docstrings and annotations stays."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    name = str(path.relative_to(TOP))
    for function, qualified, alone in _functions(tree, "", ()):
        for node, owner, field in _nodes(function):
            for what, change in _changes(node):
                new = ast.fix_missing_locations(change(copy.deepcopy(node)))
                _put(owner, field, node, new)
                code = _code(alone, str(path), qualified)
                _put(owner, field, new, node)
                yield Mutant(name, node.lineno, qualified, what, code)


def _functions(
    node: ast.AST, prefix: str, classes: tuple[ast.ClassDef, ...]
) -> Iterator[tuple[ast.FunctionDef, str, ast.Module]]:
    """Yield functions with their qualified names, and modules that hold nothing but them and their class."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            alone: ast.stmt = child
            for each in reversed(classes):
                alone = ast.copy_location(ast.ClassDef(each.name, [], [], [alone], [], type_params=[]), each)
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


def _nodes(function: ast.FunctionDef) -> Iterator[tuple[Any, Any, Any]]:
    """Yield what stands in a function's body, with its place; annotations and docstrings left out."""
    waiting: list[tuple[ast.AST, Any, Any]] = [(each, function.body, None) for each in function.body]
    while waiting:
        node, owner, field = waiting.pop(0)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        yield node, owner, field
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "ctx", "decorator_list", "args") and not isinstance(
                node, ast.Call
            ):
                continue
            if isinstance(value, list):
                waiting += [(each, value, None) for each in value if isinstance(each, ast.AST)]
            elif isinstance(value, ast.AST):
                waiting.append((value, node, name))


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
    """A pytest plugin that notes which functions each test runs through, and how long it takes."""

    def __init__(self, files: set[str]) -> None:
        self._files = files
        self.items: dict[str, Any] = {}
        self.through: dict[Place, set[str]] = defaultdict(set)
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()

    def pytest_collection_finish(self, session: Any) -> None:
        self.items = {item.nodeid: item for item in session.items}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Any:
        seen: set[types.CodeType] = set()
        wanted = self._files

        def profile(frame: Any, event: str, _: Any) -> None:
            if event == "call" and frame.f_code.co_filename in wanted:
                seen.add(frame.f_code)

        start = time.perf_counter()
        sys.setprofile(profile)
        try:
            return (yield)
        finally:
            sys.setprofile(None)
            self.seconds[item.nodeid] = time.perf_counter() - start
            for code in seen:
                self.through[place_of(code)].add(item.nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.failed.add(report.nodeid)


def place_of(code: types.CodeType) -> Place:
    """Return the function of the module's top level or class that a code object belongs to."""
    # What is defined inside a function (a comprehension, a closure) is a constant of its code.
    return (code.co_filename, code.co_qualname.split(".<locals>")[0])


def live_functions(files: set[str]) -> dict[tuple[str, str], list[types.FunctionType]]:
    """Return the functions that are loaded from these files, by file and qualified name."""
    found: dict[tuple[str, str], list[types.FunctionType]] = defaultdict(list)
    for each in gc.get_objects():
        if isinstance(each, types.FunctionType) and each.__code__.co_filename in files:
            found[each.__code__.co_filename, each.__code__.co_qualname].append(each)
    return found


def dies(code: types.CodeType, functions: list[types.FunctionType], tests: list[Any], seconds: int) -> bool:
    """Run the tests in a fork that has the changed code; tell whether one failed or time ran out."""
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            signal.alarm(seconds)
            for function in functions:
                function.__code__ = code
            status = 0 if all(passes(test) for test in tests) else 1
        os._exit(status)
    _, result = os.waitpid(child, 0)
    return result != 0


def passes(item: Any) -> bool:
    """Run one collected test."""
    from _pytest.runner import runtestprotocol

    reports = runtestprotocol(item, nextitem=None, log=False)
    return not any(report.failed for report in reports)


def main() -> None:
    """Run, print the survivors and the share that was killed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--modules", nargs="+", default=list(MODULES))
    parser.add_argument("--tests", nargs="+", default=list(TESTS))
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every Nth mutant only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the survivors and counts here")
    options = parser.parse_args()
    sys.path.insert(0, str(TOP))
    os.chdir(TOP)
    paths = sorted({path for pattern in options.modules for path in TOP.glob(pattern)})
    recorder = Recorder({str(path) for path in paths})
    quiet = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--no-header", "-W", "ignore"]

    class Then:
        """Goes on inside pytest's own session, where fixtures are alive."""

        @pytest.hookimpl(trylast=True)
        def pytest_sessionfinish(self, session: Any) -> None:
            del session
            report(options, paths, recorder)

    sys.exit(pytest.main([*quiet, *options.tests], plugins=[recorder, Then()]))


def report(options: argparse.Namespace, paths: list[Path], recorder: Recorder) -> None:
    """Try all mutants; print and write what came of them."""
    live = live_functions({str(path) for path in paths})
    killed: Counter[str] = Counter()
    total: Counter[str] = Counter()
    survivors: list[dict[str, Any]] = []
    number = 0
    for path in paths:
        for mutant in mutants(path):
            number += 1
            if number % options.every:
                continue
            file = str(path)
            functions, code = live[file, mutant.function], mutant.code
            if code is None or not all(code.co_freevars == each.__code__.co_freevars for each in functions):
                continue
            names = recorder.through[file, mutant.function] - recorder.failed
            tests = [recorder.items[each] for each in sorted(names, key=recorder.seconds.__getitem__)]
            # Ten times what they took, and a second more.
            limit = 2 + int(10 * sum(recorder.seconds[each] for each in names))
            total[mutant.file] += 1
            with contextlib.redirect_stdout(io.StringIO()):
                dead = bool(tests) and dies(code, functions, tests, limit)
            if dead:
                killed[mutant.file] += 1
            else:
                survivors.append({**mutant._asdict(), "tests": len(tests)})
                survivors[-1].pop("code")
                print(f"{mutant.file}:{mutant.line}: {mutant.function}: {mutant.what}", flush=True)
    for file in sorted(total):
        print(f"{file:40} {killed[file]:5} of {total[file]:5} killed, {killed[file] / total[file]:.0%}")
    done, all_of_them = sum(killed.values()), sum(total.values())
    share = done / all_of_them if all_of_them else 0.0
    print(f"{'all':40} {done:5} of {all_of_them:5} killed, {share:.0%}", flush=True)
    if options.json:
        counts = {file: [killed[file], total[file]] for file in sorted(total)}
        options.json.write_text(json.dumps({"counts": counts, "survivors": survivors}, indent=1))


if __name__ == "__main__":
    main()
