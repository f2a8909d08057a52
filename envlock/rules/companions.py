"""Rules about companions: do packages that are released along with a framework belong to its release."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from envlock.manifest.requirements import parse_requirement
from envlock.manifest.versions import dotted, major, matches, release, series
from envlock.rules.engine import rule
from envlock.rules.framework import (
    TORCH_COMPANIONS,
    Outcome,
    differs,
    facts_of,
    is_release,
    public,
    row_of,
    tensorflow,
    version_trial,
)
from envlock.rules.model import Evidence, Finding, Fix, Unknown

if TYPE_CHECKING:
    from envlock.matrix.loader import Matrix
    from envlock.rules.stack import Build, Installed, Stack


@rule("framework-companion-mismatch", layer="framework")
def framework_companion_mismatch(stack: Stack, matrix: Matrix) -> Outcome:
    """A package that is released along with a framework belongs to another release of it.

    Shows itself as "operator torchvision::nms does not exist", undefined symbols, "Detected that PyTorch and
    torchvision were compiled with different CUDA versions", "jaxlib version ... is newer than and incompatible
    with jax", or a missing keras attribute. Usually one of the two was upgraded alone.

    Fix: install both together, from one index, in versions that belong to each other.

    Source: the packages' own metadata (Requires-Dist); compatibility tables in their READMEs.
    """
    yield from _torch_companions(stack, matrix)
    yield from _triton(stack, matrix)
    yield from _jaxlib(stack, matrix)
    yield from _tensorflow_companions(stack, matrix)


def _torch_companions(stack: Stack, matrix: Matrix) -> Outcome:
    torch = stack.version_of("torch")
    if torch is None or not torch.version:
        for name in TORCH_COMPANIONS:
            yield from _other_cuda(name, stack.package(name), stack)
        return
    if not is_release(torch.version):
        return
    newest = matrix.rows("torch", "release")[-1]["version"]
    if release(torch.version) > release(newest):
        yield Unknown(needs=f"what belongs to torch {torch.version} (the matrix ends at torch {newest})")
    for name in TORCH_COMPANIONS:
        held = stack.version_of(name)
        found = _stated_pair(name, held, torch, stack, matrix) or _listed_pair(
            name, held, torch, stack, matrix
        )
        if found:
            yield found
        else:
            yield from _other_cuda(name, held, stack)


def _stated_pair(
    name: str, held: Installed | None, torch: Installed, stack: Stack, matrix: Matrix
) -> Finding | None:
    """Hold a companion to what it says of itself: what it was built for, or the torch that it pins."""
    framework, beside = stack.framework(name), f"and torch {torch.version} is installed"
    built = framework.built_for.get("torch") if framework else None
    if built and differs(built, torch.version, 2):
        return _pair(name, held, torch, stack, matrix, f"is built for torch {built}, {beside}",
                     Evidence(f"framework.{name}.built_for", {"torch": built}), built, "its own build facts")  # fmt: skip
    for line in stack.manifest.requires.get(name, ()):
        wanted = parse_requirement(line)
        if wanted and wanted.name == "torch" and "==" in wanted.specifier:
            if matches(torch.version, wanted.specifier) is False:
                return _pair(name, held, torch, stack, matrix, f"is for torch{wanted.specifier}, {beside}",
                             Evidence(f"requires.{name}", line), wanted.specifier.lstrip("="),
                             f"metadata of {name} (Requires-Dist)")  # fmt: skip
            return None
    return None


def _listed_pair(
    name: str, held: Installed | None, torch: Installed, stack: Stack, matrix: Matrix
) -> Finding | None:
    if held is None or not held.version or not is_release(held.version):
        return None
    rows = [row for row in matrix.rows("torch", "companion") if row["package"] == name]
    row = row_of(held.version, rows)
    evidence = Evidence(held.address, held.version)
    if row is not None:
        stopped = _is_last(row, matrix)
        if not stopped and any(_asks_for(line, "torch") for line in stack.manifest.requires.get(name, ())):
            return None
        wanted, beside = _torch_of(row, matrix), f"and torch {torch.version} is installed"
        if matches(torch.version, wanted) is False:
            built = wanted.lstrip("=>").removesuffix(".*")
            return _pair(
                name,
                held,
                torch,
                stack,
                matrix,
                f"is for torch{wanted}, {beside}",
                evidence,
                built,
                row["source"],
            )
        return None
    of_torch = row_of(torch.version or "", matrix.rows("torch", "release"))
    if of_torch is not None and name in ("torchvision", "torchaudio") and name in of_torch:
        right = of_torch[name]
        if series(held.version) != series(right) and series(held.version) < series(rows[-1]["version"]):
            return _pair(name, held, torch, stack, matrix, f"is not the one for torch {torch.version}: that is {right}", evidence,
                         None, of_torch["source"], right)  # fmt: skip
    return None


def _asks_for(line: str, name: str) -> bool:
    wanted = parse_requirement(line)
    return wanted is not None and wanted.name == name


def _is_last(row: Any, matrix: Matrix) -> bool:
    """Tell whether a row's release is the last one of a project that stopped."""
    return any(
        each["package"] == row["package"] and each["state"] == "stopped" and each["last"] == row["version"]
        for each in matrix.rows("torch", "end-of-life")
    )


def _torch_of(row: Any, matrix: Matrix) -> str:
    """Return the torch that a companion's release is for: the last one of a project was built for that of its day."""
    wanted: str = row["torch"]
    return f"=={dotted(series(wanted.lstrip('>=')))}.*" if _is_last(row, matrix) else wanted


def _pair(
    name: str, held: Installed | None, torch: Installed, stack: Stack, matrix: Matrix, what: str, evidence: Evidence,
    built: str | None, source: str, right: str | None = None,
) -> Finding:  # fmt: skip
    """Say that a companion and torch do not belong together; only a difference of the patch may yet work."""
    near = built is not None and series(built) == series(torch.version)
    label = f"{name} {held.version}" if held and held.version else name
    subject = held.address if held and held.address.startswith("package.") else f"framework.{name}"
    return Finding(
        subject=subject,
        message=f"{label} {what}",
        evidence=(
            evidence,
            *([Evidence(held.address, held.version)] if held and held.address != evidence.address else []),
            *facts_of("torch", torch, stack),
        ),
        fixes=_companion_fixes(name, held, torch, built, right, stack, matrix),
        source=source,
        severity="warning" if near else "error",
    )


def _companion_fixes(
    name: str,
    held: Installed | None,
    torch: Installed,
    built: str | None,
    right: str | None,
    stack: Stack,
    matrix: Matrix,
) -> tuple[Fix, ...]:
    fixes = []
    local = (torch.version or "").partition("+")[2]
    tail = f"+{local}" if held and held.version and "+" in held.version and local else ""
    if right is None:
        rows = [row for row in matrix.rows("torch", "companion") if row["package"] == name]
        fitting = [row["version"] for row in rows if matches(torch.version, _torch_of(row, matrix))]
        right = fitting[-1] if fitting else None
    address = held.address if held else f"framework.{name}.version"
    if right:
        to = right + tail
        fixes.append(Fix(address, to, f"install {name} {to} beside torch {torch.version}",
                         version_trial(name, to, stack)))  # fmt: skip
    if built and release(built):
        to = public(built) + (f"+{local}" if local else "")
        fixes.append(
            Fix(torch.address, to, f"install torch {to}, which it is for", version_trial("torch", to, stack))
        )
    return tuple(fixes)


def _other_cuda(name: str, held: Installed | None, stack: Stack) -> Outcome:
    """Hold the CUDA of a companion's build to torch's."""
    torch, own = stack.build("torch"), stack.build(name)
    if torch is None or own is None or torch.cuda is None or own.cuda is None:
        return
    cuda = own.cuda
    if series(cuda) == series(torch.cuda):
        return
    # A bare major ("cu12") says nothing of the minor.
    if major(cuda) == major(torch.cuda) and not ("." in cuda and "." in torch.cuda):
        return
    grave = major(cuda) != major(torch.cuda) or name == "torchaudio"
    words = [f"CUDA {each}" if each else "the CPU" for each in (cuda, torch.cuda)]
    yield Finding(
        subject=held.address if held else f"framework.{name}",
        message=f"{own.label} is built for {words[0]} and {torch.label} for {words[1]}",
        evidence=(
            *(Evidence(address, value) for address, value in own.facts),
            *(Evidence(address, value) for address, value in torch.facts),
        ),
        fixes=_same_local(name, held, torch, stack),
        source="torchvision/extension.py and torchaudio/_extension: check of the CUDA version at import",
        severity="error" if grave else "warning",
    )


def _same_local(name: str, held: Installed | None, torch: Build, stack: Stack) -> tuple[Fix, ...]:
    local = (torch.version or "").partition("+")[2]
    if not local or held is None or not held.version:
        return ()
    to = f"{public(held.version)}+{local}"
    trial = version_trial(name, to, stack)
    if stack.framework(name):
        trial[f"framework.{name}.cuda"] = torch.cuda
    index = f"https://download.pytorch.org/whl/{local}"
    return (Fix(held.address, to, f"pip install {name}=={to} --index-url {index}", trial),)


def _triton(stack: Stack, matrix: Matrix) -> Outcome:
    torch = stack.version_of("torch")
    if torch is None or not is_release(torch.version) or torch.manager == "conda":
        return
    asked, line = _asked("torch", ("triton", "pytorch-triton"), stack)
    row = row_of(torch.version or "", matrix.rows("torch", "release"))
    pin = asked or (row.get("triton") if row else None)
    if not pin:
        return
    specifier = f"=={pin}" if pin[0].isdigit() else pin
    minor = series(specifier.lstrip("=~"))
    for name in ("triton", "pytorch-triton", "triton-windows"):
        held = stack.version_of(name)
        if held is None or not held.version or not is_release(held.version):
            continue
        # The releases for Windows are post releases with numbers of their own.
        wanted = f"=={dotted(minor)}.*" if name == "triton-windows" else specifier
        if matches(held.version, wanted) is not False:
            continue
        to = wanted.lstrip("=~").removesuffix(".*")
        yield Finding(
            subject=held.address,
            message=f"torch {torch.version} is for triton{specifier}, and {name} {held.version} is installed",
            evidence=(
                Evidence(held.address, held.version),
                *facts_of("torch", torch, stack),
                *([Evidence("requires.torch", line)] if line else []),
            ),
            fixes=(Fix(held.address, wanted, f"install {name}{wanted}", version_trial(name, to, stack)),),
            source="metadata of torch (Requires-Dist)" if line or not row else row["source"],
            severity="note" if series(held.version) == minor else "warning",
        )


def _asked(owner: str, names: tuple[str, ...], stack: Stack) -> tuple[str, str]:
    """Return the range in which an installed package asks for one of these, and the line that says so; else ""."""
    for line in stack.manifest.requires.get(owner, ()):
        wanted = parse_requirement(line)
        if wanted and wanted.name in names and wanted.specifier:
            return wanted.specifier, line
    return "", ""


def _jaxlib(stack: Stack, matrix: Matrix) -> Outcome:
    jax, jaxlib = stack.version_of("jax"), stack.package("jaxlib")
    if jaxlib is None or not jaxlib.version:
        return
    if jax is not None and jax.version and release(jax.version) >= (0, 4) and jax.name != jaxlib.name:
        yield from _jax_and_jaxlib(jax, jaxlib, stack, matrix)
    for name, package in stack.manifest.package.pip.items():
        plugin = re.fullmatch(r"jax-(?:cuda|rocm)\d*-(plugin|pjrt)", name)
        if not plugin or not package.version or not is_release(jaxlib.version):
            continue
        if _base(package.version) == _base(jaxlib.version):
            continue
        to = public(jaxlib.version)
        yield Finding(
            subject=f"package.pip.{name}",
            message=f"{name} {package.version} does not belong to jaxlib {jaxlib.version}: JAX leaves it out and "
            "runs on the CPU",
            evidence=(
                Evidence(f"package.pip.{name}", package.version),
                Evidence(jaxlib.address, jaxlib.version),
            ),
            fixes=(Fix(f"package.pip.{name}", to, f"install {name}=={to}", version_trial(name, to, stack)),),
            source="jax/_src and jax_plugins: the plugin's version must be jaxlib's",
            severity="error" if plugin[1] == "plugin" else "warning",
        )


def _base(text: str) -> tuple[int, ...]:
    numbers = list(release(text))
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _jax_and_jaxlib(jax: Installed, jaxlib: Installed, stack: Stack, matrix: Matrix) -> Outcome:
    row = row_of(jax.version or "", matrix.rows("jax", "release"))
    pin, line = _asked("jax", ("jaxlib",), stack)
    wanted = pin or (row["jaxlib"] if row else None)
    newer = release(jaxlib.version) > release(jax.version) and is_release(jax.version)
    if not (newer or (wanted and matches(jaxlib.version, wanted) is False)):
        return
    need = wanted or f"<={jax.version}"
    target = public(jax.version)
    yield Finding(
        subject=jaxlib.address,
        message=f"jax {jax.version} needs jaxlib {need}, and jaxlib {jaxlib.version} is installed",
        evidence=(
            Evidence(jaxlib.address, jaxlib.version),
            *facts_of("jax", jax, stack),
            *([Evidence("requires.jax", line)] if line else []),
        ),
        fixes=(
            Fix(jaxlib.address, target, f"install jax and jaxlib {target} together",
                version_trial("jaxlib", target, stack)),
        ),
        source="metadata of jax (Requires-Dist)" if line
        else row["source"] if row else "jax/_src/lib/__init__.py: check_jaxlib_version",
    )  # fmt: skip


def _tensorflow_companions(stack: Stack, matrix: Matrix) -> Outcome:
    held = tensorflow(stack)
    if held is None or not held.version or not is_release(held.version):
        return
    row = row_of(".".join(map(str, series(held.version))), matrix.rows("tensorflow", "release"))
    keras = stack.version_of("keras")
    if row and keras and keras.version and matches(keras.version, row["keras"]) is False:
        yield _tf_pair("keras", keras, held, row["keras"], row["source"], stack, error=True)
    for name in ("tensorboard", "tensorflow-estimator", "tensorflow-intel", "tf-keras"):
        other = stack.version_of(name)
        if (
            other is None
            or not other.version
            or other is held
            or not (2, 1) <= series(held.version) <= (2, 20)
        ):
            continue
        if series(other.version) != series(held.version):
            minor = f"=={dotted(series(held.version))}.*"
            yield _tf_pair(name, other, held, minor, f"tensorflow {dotted(series(held.version))} setup.py", stack,
                           error=name == "tensorflow-intel")  # fmt: skip
    rows = matrix.rows("tensorflow", "companion")
    for name in dict.fromkeys(each["package"] for each in rows):
        other = stack.version_of(name)
        if other is None or not other.version:
            continue
        own = [each for each in rows if each["package"] == name]
        found = row_of(other.version, own)
        if found and matches(held.version, found["tensorflow"]) is False:
            fitting = [each["version"] for each in own if matches(held.version, each["tensorflow"])]
            # tensorflow-probability is pure Python: it refuses an older TensorFlow, and may live with a newer one.
            older = matches(held.version, found["tensorflow"].partition(",")[0]) is False
            yield _tf_pair(name, other, held, found["tensorflow"], found["source"], stack, theirs=True,
                           error=name != "tensorflow-probability" or older, fitting=fitting[-1:])  # fmt: skip


def _tf_pair(
    name: str, other: Installed, held: Installed, wanted: str, source: str, stack: Stack, *, error: bool,
    theirs: bool = False, fitting: Sequence[str] = (),
) -> Finding:  # fmt: skip
    right = wanted.partition(",")[0].lstrip("=>").removesuffix(".*")
    message = (
        f"{name} {other.version} is for tensorflow{wanted}, and {held.name} {held.version} is installed"
        if theirs
        else f"{held.name} {held.version} is for {name}{wanted}, and {name} {other.version} is installed"
    )
    moved, to = (held.name, right + ".0") if theirs else (name, right + ".0")
    address = held.address if theirs else other.address
    return Finding(
        subject=other.address,
        message=message,
        evidence=(Evidence(other.address, other.version), *facts_of(held.name, held, stack)),
        fixes=(
            *(Fix(other.address, f"=={version}.*", f"install {name}=={version}.* beside {held.name} {held.version}",
                  version_trial(name, version, stack)) for version in fitting),
            Fix(address, wanted, f"install {moved}{wanted}", version_trial(moved, to, stack)),
        ),
        source=source,
        severity="error" if error else "warning",
    )  # fmt: skip
