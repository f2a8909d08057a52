"""Images for tests: made by hand, member by member, or by buildah where it is installed."""

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def file(name, content=b"", mode=0o644):
    info = tarfile.TarInfo(name)
    content = content.encode() if isinstance(content, str) else content
    info.size, info.mode, info.mtime = len(content), mode, 1_700_000_000
    return info, content


def member(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def folder(name):
    return member(name, tarfile.DIRTYPE)


def link(name, target):
    return member(name, tarfile.SYMTYPE, target)


def hard_link(name, target):
    return member(name, tarfile.LNKTYPE, target)


def layer(*members, format=tarfile.PAX_FORMAT):  # noqa: A002
    """Return an uncompressed layer."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def sha256(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def pack(content, how):
    if how == "gzip":
        return gzip.compress(content, 6, mtime=0)
    if how == "zstd":
        return pytest.importorskip("zstandard").compress(content)
    return content


class Layout:
    """An OCI image layout under a folder, put together blob by blob so that any of them can be wrong."""

    def __init__(self, path):
        self.path = Path(path)
        (self.path / "blobs" / "sha256").mkdir(parents=True)
        (self.path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self.manifests = []

    def blob(self, content, media_type, **more):
        """Store a blob and return its descriptor."""
        content = json.dumps(content).encode() if isinstance(content, dict) else content
        digest = sha256(content)
        (self.path / "blobs" / "sha256" / digest[7:]).write_bytes(content)
        return {"mediaType": media_type, "digest": digest, "size": len(content), **more}

    def image(
        self, *layers, how="gzip", env=(), labels=None, arch="amd64", variant=None, platform=True, tag=None
    ):
        """Store an image and return its manifest's descriptor; ``add`` puts it into the index."""
        config = {
            "os": "linux",
            "architecture": arch,
            "rootfs": {"type": "layers", "diff_ids": [sha256(content) for content in layers]},
            "config": {"Env": list(env), "Labels": labels},
        }
        if variant:
            config["variant"] = variant
        suffix = {"gzip": "+gzip", "zstd": "+zstd", "": ""}[how]
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(config, CONFIG),
            "layers": [self.blob(pack(content, how), LAYER + suffix) for content in layers],
        }
        more = {"platform": {key: config[key] for key in ("os", "architecture", "variant") if key in config}}
        if tag:
            more["annotations"] = {"org.opencontainers.image.ref.name": tag}
        return self.blob(manifest, MANIFEST, **(more if platform else {}))

    def add(self, descriptor):
        self.manifests.append(descriptor)
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": self.manifests}
        (self.path / "index.json").write_text(json.dumps(index))
        return self

    def of(self, *layers, **options):
        """Store an image and put it into the index."""
        return self.add(self.image(*layers, **options))

    def __str__(self):
        return str(self.path)


def docker_archive(path, *layers, env=(), tags=("app:latest",), how=""):
    """Write what `docker save` wrote before version 25: manifest.json, a configuration, a folder a layer."""
    config = {
        "os": "linux",
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [sha256(content) for content in layers]},
        "config": {"Env": list(env)},
    }
    text = json.dumps(config).encode()
    names = [f"{number:064x}/layer.tar" for number, _ in enumerate(layers)]
    manifest = [{"Config": sha256(text)[7:] + ".json", "RepoTags": list(tags), "Layers": names}]
    members = [file(manifest[0]["Config"], text)]
    seen = {}
    for name, content in zip(names, layers, strict=True):
        # Docker stores a layer that occurs twice once, and links to it.
        members.append(
            link(name, "../" + seen[content]) if content in seen else file(name, pack(content, how))
        )
        seen.setdefault(content, name)
    members.append(file("manifest.json", json.dumps(manifest)))
    Path(path).write_bytes(layer(*members))
    return str(path)


def archive(layout, path):
    """Write a layout folder as a tar."""
    with tarfile.open(path, "w") as tar:
        for root, _, names in os.walk(layout.path):
            for name in sorted(names):
                full = Path(root) / name
                tar.add(full, str(full.relative_to(layout.path)))
    return str(path)


def tool(name):
    """Return a program's path, or skip the test with the reason."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def walk(root, path, depth):
    """Look at everything below a folder of a root, as a probe might; files that cannot be read are no failure."""
    for entry in root.scan(path)[:200]:
        inside = f"{path.rstrip('/')}/{entry.name}"
        root.realpath(inside)
        try:
            root.stat(inside)
            root.read(inside, limit=1 << 20)
        except OSError:
            pass
        if entry.is_dir and depth < 4:
            walk(root, inside, depth + 1)


class Buildah:
    """buildah with a store of its own: no daemon, no namespace, no network."""

    def __init__(self, path):
        program = tool("buildah")
        if os.geteuid() != 0:
            pytest.skip("buildah's chroot isolation needs root")
        self._command = [
            program,
            "--root",
            f"{path}/store",
            "--runroot",
            f"{path}/run",
            "--storage-driver",
            "vfs",
        ]
        self._environ = {**os.environ, "BUILDAH_ISOLATION": "chroot", "TMPDIR": str(path)}

    def __call__(self, *arguments):
        done = subprocess.run(
            [*self._command, *arguments],
            capture_output=True,
            text=True,
            env=self._environ,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()
