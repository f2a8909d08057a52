"""A Dockerfile stanza: system packages, conda packages by their files, pip packages by their requirements.

Files are written by here-documents (BuildKit's Dockerfile syntax 1.4), so that the stanza stands alone.
"""

from __future__ import annotations

import re

from envlock.locks.export.conda_explicit import explicit_lines
from envlock.locks.export.model import Exported, Files, header, plural, shown
from envlock.locks.export.requirements import requirement_lines
from envlock.manifest.model import Manifest

_APT = ("debian", "ubuntu")
_SYSTEM_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{0,100}\Z")
_SYSTEM_VERSION = re.compile(r"[0-9A-Za-z][\w.+:~-]{0,100}\Z", re.A)
_IMAGE = re.compile(r"[a-z0-9][\w./:@-]{0,300}\Z", re.A)
_VARIABLE = re.compile(r"[A-Za-z_]\w{0,100}\Z", re.A)
_BAKED = ("LD_LIBRARY_PATH", "LD_PRELOAD", "CUDA_HOME", "NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_REQUIRE_CUDA")
"""Variables that belong to an image; the others are their user's."""


def write(manifest: Manifest, files: Files) -> Exported:
    """Return the stanza; what it cannot hold is said above it."""
    notes: list[str] = []
    body = [*_from(manifest, notes), *_variables(manifest, notes), *_system(manifest, notes)]
    conda = explicit_lines(manifest, files, notes) if manifest.package.conda else []
    pip = requirement_lines(manifest, files, notes)
    body += [*_conda(manifest, conda), *_pip(pip)]
    return Exported(
        "\n".join(["# syntax=docker/dockerfile:1", *header(manifest, notes), *body]) + "\n",
        tuple(notes),
        len(conda) + len(pip),
    )


def _from(manifest: Manifest, notes: list[str]) -> list[str]:
    image, digest = manifest.container.image, manifest.container.digest
    if image and _IMAGE.match(image):
        pin = (
            f"@{digest}" if digest and re.match(r"sha256:[0-9a-f]{64}\Z", digest) and "@" not in image else ""
        )
        return [f"FROM {image}{pin}"]
    base = " ".join(filter(None, (manifest.os.id, manifest.os.version)))
    python = f", Python {shown(manifest.python.version)}" if manifest.python.version else ""
    notes.append(f"the base image: it was not recorded ({shown(base) or 'no distribution either'}{python})")
    return ["# FROM ..."]


def _variables(manifest: Manifest, notes: list[str]) -> list[str]:
    lines = []
    for name, value in manifest.environ.items():
        if name not in _BAKED or not value:
            continue
        if "***" in value or not _VARIABLE.match(name) or not value.isprintable():
            notes.append(f"the variable {shown(name)}: its value is masked or holds control characters")
            continue
        quoted = re.sub(r'(["\\$])', r"\\\1", value)
        lines.append(f'ENV {name}="{quoted}"')
    return lines


def _system(manifest: Manifest, notes: list[str]) -> list[str]:
    packages = manifest.package.system
    if not packages:
        return []
    if manifest.os.id not in _APT:
        notes.append(
            f"{plural(len(packages), 'system package')} of {shown(manifest.os.id or 'an unknown system')}"
        )
        return []
    good = {n: v for n, v in packages.items() if _SYSTEM_NAME.match(n) and _SYSTEM_VERSION.match(v)}
    if len(good) < len(packages):
        notes.append(
            f"{plural(len(packages) - len(good), 'system package')} whose name or version apt would not take"
        )
    if not good:
        return []
    wanted = " \\\n      ".join(f"{name}={version}" for name, version in sorted(good.items()))
    return [
        "RUN apt-get update \\",
        f" && apt-get install -y --no-install-recommends --allow-downgrades \\\n      {wanted} \\",
        " && rm -rf /var/lib/apt/lists/*",
    ]


def _conda(manifest: Manifest, lines: list[str]) -> list[str]:
    if not lines:
        return []
    prefix = manifest.python.prefix or "/opt/env"
    prefix = prefix if re.match(r"/[\w./-]{1,200}\Z", prefix, re.A) else "/opt/env"
    return [
        "COPY <<'EXPLICIT' /tmp/explicit.txt", "@EXPLICIT", *lines, "EXPLICIT",
        f"RUN conda create --yes --prefix {prefix} --file /tmp/explicit.txt && rm /tmp/explicit.txt",
        f"ENV PATH={prefix}/bin:$PATH",
    ]  # fmt: skip


def _pip(lines: list[str]) -> list[str]:
    if not lines:
        return []
    return [
        "COPY <<'REQUIREMENTS' /tmp/requirements.txt", *lines, "REQUIREMENTS",
        "RUN python -m pip install --no-cache-dir --no-deps -r /tmp/requirements.txt && rm /tmp/requirements.txt",
    ]  # fmt: skip
