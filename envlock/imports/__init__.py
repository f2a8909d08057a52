"""Pasted reports read into manifests; what a paste does not hold stays unknown.

A paste is cleaned of what forums and terminals add (``text``), cut into the reports that it holds, each
read by its own shape, and united (``merge``). A new shape is one file with ``find`` and ``parse`` and
one line in the table below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from envlock.errors import EnvlockError
from envlock.imports import (
    bitsandbytes,
    check_env,
    collect_env,
    conda_env,
    conda_explicit,
    conda_info,
    conda_list,
    deepspeed,
    detectron2,
    environ,
    huggingface,
    jax_info,
    markdown_table,
    nvcc,
    nvidia_smi,
    pandas_versions,
    pip_freeze,
    pip_inspect,
    pip_list,
    pip_show,
    pixi_list,
    system,
    tensorflow_info,
    torch_config,
    xformers,
)
from envlock.imports.facts import Facts
from envlock.imports.merge import finish, merge
from envlock.imports.text import JSON_ATTEMPTS, JSON_START, LINE_LIMIT, Block, blocks, json_end

__all__ = ["SIZE_LIMIT", "ImportReportError", "Section", "read_report", "recognise"]

SIZE_LIMIT = 64 * 1024 * 1024
"""Characters of a paste at most; a GitHub issue holds 65,536."""


class ImportReportError(EnvlockError):
    """A paste that cannot be read: too large, or nothing in it that envlock knows."""


class Section(NamedTuple):
    """A part of a paste that one shape reads."""

    shape: str
    """The shape's name, as the table below calls it."""
    lines: list[str]
    """Its clean lines."""


class _Shape(NamedTuple):
    name: str
    find: Callable[[Block, int], int]
    """Returns the end (exclusive) of a report that starts at a line, or the line's own number for none."""
    parse: Callable[[list[str]], Facts]
    loose: bool = False
    """Whether its lines go on until the next report starts, since prose may stand between them."""


class _JsonShape(NamedTuple):
    name: str
    holds: Callable[[Any], bool]
    parse: Callable[[list[str]], Facts]


SHAPES = (
    _Shape("nvidia-smi", nvidia_smi.find, nvidia_smi.parse),
    _Shape("nvidia-smi -q", nvidia_smi.find_query, nvidia_smi.parse_query),
    _Shape("nvidia-smi -L", nvidia_smi.find_list, nvidia_smi.parse_list),
    _Shape("nvidia-smi --query-gpu", nvidia_smi.find_csv, nvidia_smi.parse_csv),
    _Shape("nvidia-smi error", nvidia_smi.find_failure, nvidia_smi.parse_failure),
    _Shape("nvcc", nvcc.find, nvcc.parse),
    _Shape("jax", jax_info.find, jax_info.parse),
    _Shape("pandas", pandas_versions.find, pandas_versions.parse),
    _Shape("tensorflow", tensorflow_info.find, tensorflow_info.parse),
    _Shape("deepspeed", deepspeed.find, deepspeed.parse),
    _Shape("xformers", xformers.find, xformers.parse),
    _Shape("bitsandbytes", bitsandbytes.find, bitsandbytes.parse),
    _Shape("detectron2", detectron2.find, detectron2.parse),
    _Shape("huggingface", huggingface.find, huggingface.parse),
    _Shape("collect_env", collect_env.find, collect_env.parse, loose=True),
    _Shape("check_env", check_env.find, check_env.parse, loose=True),
    _Shape("torch config", torch_config.find, torch_config.parse),
    _Shape("markdown table", markdown_table.find, markdown_table.parse),
    _Shape("conda env", conda_env.find, conda_env.parse),
    _Shape("conda info", conda_info.find, conda_info.parse),
    _Shape("conda explicit", conda_explicit.find, conda_explicit.parse),
    _Shape("pixi list", pixi_list.find, pixi_list.parse),
    _Shape("conda list", conda_list.find, conda_list.parse),
    _Shape("pip show", pip_show.find, pip_show.parse),
    _Shape("pip list", pip_list.find, pip_list.parse),
    _Shape("pip freeze", pip_freeze.find, pip_freeze.parse),
    _Shape("os-release", system.find_release, system.parse_release),
    _Shape("uname", system.find_uname, system.parse_uname),
    _Shape("gcc", system.find_gcc, system.parse_gcc),
    _Shape("ldd", system.find_libc, system.parse_libc),
    _Shape("system packages", system.find_packages, system.parse_packages),
    _Shape("kernel module", system.find_module, system.parse_module),
    _Shape("nccl log", environ.find_nccl, environ.parse_nccl),
    _Shape("environment", environ.find, environ.parse),
)
"""Every shape of lines; where two could start at one line, the first has it."""

JSON_SHAPES = (
    _JsonShape("pip inspect", pip_inspect.holds, pip_inspect.parse),
    _JsonShape("pixi list --json", pixi_list.holds, pixi_list.parse_json),
    _JsonShape("conda list --json", conda_list.holds, conda_list.parse_json),
    _JsonShape("pip list --format json", pip_list.holds, pip_list.parse_json),
    _JsonShape("conda info --json", conda_info.holds, conda_info.parse_json),
)
"""Every shape of JSON documents."""

_PARSERS = {shape.name: shape.parse for shape in (*SHAPES, *JSON_SHAPES)}


def read_report(text: str) -> Facts:
    """Return the manifest, as plain tables, of all reports in a paste.

    Where two reports name different values for one fact, the first stands. Raises ImportReportError.
    """
    sections = recognise(text)
    if not sections:
        raise ImportReportError(
            "no report that envlock knows is in the text: paste the output of `python -m torch.utils.collect_env`, "
            "`pip freeze`, `conda list`, `nvidia-smi` or a like tool, as it was printed"
        )
    whole: Facts = {}
    for section in sections:
        merge(whole, _PARSERS[section.shape](section.lines))
    manifest = finish(whole)
    if len(manifest) == 2 and "unobserved" not in manifest["capture"]:
        names = ", ".join(sorted({section.shape for section in sections}))
        raise ImportReportError(
            f"the text holds no fact: its report ({names}) says of everything that it is not known"
        )
    return manifest


def recognise(text: str) -> list[Section]:
    """Return the reports in a paste, in their order. Raises ImportReportError for a text that is too large."""
    if len(text) > SIZE_LIMIT:
        raise ImportReportError(
            f"the text has {len(text) // 2**20} MiB, more than the {SIZE_LIMIT // 2**20} MiB that are read: "
            "cut it down to the reports themselves"
        )
    found: list[Section] = []
    attempts = JSON_ATTEMPTS
    for block in blocks(text):
        attempts -= _scan(block, found, attempts)
    return found


def _scan(block: Block, found: list[Section], attempts: int) -> int:
    """Add a block's reports to those found; returns how many JSON documents were tried."""
    whole, tried, at = block.lines, 0, 0
    short = Block(block.command, [line[:LINE_LIMIT] for line in whole])
    loose: tuple[str, int] | None = None
    while at < len(whole):
        shape, end, lines = "", at, short.lines
        if tried < attempts and JSON_START.match(short.lines[at]):
            shape, end = _json(whole, at)
            lines, tried = whole, tried + 1
        if not shape and short.lines[at]:
            shape, end = _find(short, at)
            lines = short.lines
        if shape and (loose is None or loose[0] != shape):
            if loose is not None:
                found.append(Section(loose[0], short.lines[loose[1] : at]))
                loose = None
            if shape in _LOOSE:
                loose = (shape, at)
            else:
                found.append(Section(shape, lines[at:end]))
        at = max(end, at + 1)
    if loose is not None:
        found.append(Section(loose[0], short.lines[loose[1] :]))
    return tried


_LOOSE = {shape.name for shape in SHAPES if shape.loose}


def _find(block: Block, at: int) -> tuple[str, int]:
    for shape in SHAPES:
        end = shape.find(block, at)
        if end > at:
            return shape.name, end
    return "", at


def _json(lines: list[str], at: int) -> tuple[str, int]:
    end, value = json_end(lines, at)
    if end > at:
        for shape in JSON_SHAPES:
            if shape.holds(value):
                return shape.name, end
    return "", at
