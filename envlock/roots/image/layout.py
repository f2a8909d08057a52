"""Which blobs make up an image: the OCI image layout, and the archive that ``docker save`` writes.

OCI image specification 1.1: image-layout.md, image-index.md, manifest.md, config.md. Docker image
specification 1.2, "Combined Image JSON + Filesystem Changeset Format". Since Docker 25 an archive is both.
"""

import json
import platform as machine
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from envlock.roots.image.errors import ImageError, Limits
from envlock.roots.image.layers import Packed, algorithm_of
from envlock.roots.image.root import ImageConfig
from envlock.roots.image.source import Blobs
from envlock.roots.image.stream import Blob, digest_of

_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_DEPTH = 8
"""indexes within one another at most"""
_NAMES = (
    "io.containerd.image.name",  # containerd, Docker 25 and newer: the full name
    "org.opencontainers.image.ref.name",  # OCI: often the tag alone
)


class Found(NamedTuple):
    """An image as its archive or layout describes it, before a layer is read."""

    config: ImageConfig
    layers: tuple[Packed, ...]


class _Choice(NamedTuple):
    """One image of a layout."""

    platform: str
    name: str
    digest: str
    manifest: Mapping[str, Any]
    config: Mapping[str, Any]


def find_image(blobs: Blobs, platform: str | None, tag: str, limits: Limits) -> Found | None:
    """Return the image that a set of blobs holds, None where they are no image at all."""
    index = blobs.find("index.json")
    if index is not None and (blobs.find("oci-layout") or blobs.find("manifest.json") is None):
        return _Layout(blobs, limits).choose(_load(index, "index.json", limits), platform, tag)
    manifest = blobs.find("manifest.json")
    if manifest is not None:
        return _docker(blobs, _load(manifest, "manifest.json", limits, list), platform, tag, limits)
    return None


def _load(blob: Blob, name: str, limits: Limits, kind: type = dict) -> Any:
    if blob.size > limits.document:
        raise ImageError(f"{name} has {blob.size} bytes, more than {limits.document}")
    try:
        document = json.loads(b"".join(blob.pieces()))
    except (ValueError, RecursionError):
        raise ImageError(f"{name} is not JSON") from None
    return _expect(document, kind, name)


def _expect(value: object, kind: type, what: str) -> Any:
    """Return a value of the kind that the specification demands."""
    if not isinstance(value, kind):
        names = {dict: "an object", list: "a list", str: "a text", int: "a number"}
        raise ImageError(f"{what} is not {names[kind]}")
    return value


def _texts(value: object, what: str) -> dict[str, str]:
    """Return a map of texts (labels, annotations); null stands for none."""
    table = {} if value is None else _expect(value, dict, what)
    return {key: _expect(text, str, f"{what} {key[:80]!r}") for key, text in table.items()}


class _Layout:
    """An OCI image layout."""

    def __init__(self, blobs: Blobs, limits: Limits) -> None:
        self._blobs = blobs
        self._limits = limits
        self._loaded = 0

    def _blob(self, descriptor: Mapping[str, Any], what: str) -> tuple[Blob, str]:
        """Return the blob that a descriptor names, its size checked."""
        digest = _expect(descriptor.get("digest"), str, f"the digest of {what}")
        algorithm = algorithm_of(digest)
        blob = self._blobs.find(f"blobs/{algorithm}/{digest.partition(':')[2]}")
        if blob is None:
            raise ImageError(f"{what} ({digest}) is missing")
        size = _expect(descriptor.get("size"), int, f"the size of {what}")
        if blob.size != size:
            raise ImageError(f"{what} has {blob.size} bytes where its manifest says {size} ({digest})")
        return blob, digest

    def _document(self, descriptor: Mapping[str, Any], what: str) -> dict[str, Any]:
        """Return a JSON blob, its digest verified."""
        self._loaded += 1
        if self._loaded > self._limits.documents:
            raise ImageError(f"it holds more than {self._limits.documents} manifests")
        blob, digest = self._blob(descriptor, what)
        document: dict[str, Any] = _load(blob, what, self._limits)
        if digest_of(blob, algorithm_of(digest)) != digest:
            raise ImageError(f"{what} does not match its digest ({digest})")
        return document

    def choose(self, index: Mapping[str, Any], platform: str | None, tag: str) -> Found:
        choices: dict[tuple[str, str], _Choice] = {}
        for choice in self._images(index, {}, 0):
            if not tag or tag in (choice.name, choice.name.rpartition(":")[2]):
                choices.setdefault((choice.name, choice.digest), choice)
        return self._found(_only(list(choices.values()), platform, tag))

    def _images(self, index: Mapping[str, Any], above: Mapping[str, str], depth: int) -> Iterator[_Choice]:
        """Yield the images of an index and those of the indexes in it."""
        if depth > _DEPTH:
            raise ImageError(f"it has indexes more than {_DEPTH} deep")
        for descriptor in _expect(index.get("manifests"), list, "the list of manifests"):
            _expect(descriptor, dict, "a manifest's descriptor")
            annotations = _texts(descriptor.get("annotations"), "annotation")
            if "vnd.docker.reference.type" in annotations:
                continue  # buildkit's provenance and SBOM
            annotations = {**above, **annotations}
            document = self._document(descriptor, "a manifest")
            kind = document.get("mediaType", descriptor.get("mediaType"))
            if kind in _INDEXES or (kind is None and "manifests" in document):
                yield from self._images(document, annotations, depth + 1)
            elif (choice := self._image(descriptor, document, annotations)) is not None:
                yield choice

    def _image(
        self, descriptor: Mapping[str, Any], manifest: dict[str, Any], annotations: Mapping[str, str]
    ) -> _Choice | None:
        described = _expect(manifest.get("config"), dict, "a manifest's config")
        if "image" not in str(described.get("mediaType", "image")):
            return None  # a chart, a signature, a model: an artifact that is no image
        config = self._document(described, "a configuration")
        stated = descriptor.get("platform")
        name = next((annotations[key] for key in _NAMES if annotations.get(key)), "")
        return _Choice(
            _platform(stated if isinstance(stated, dict) else config),
            name,
            descriptor["digest"],
            manifest,
            config,
        )

    def _found(self, choice: _Choice) -> Found:
        described = _expect(choice.manifest.get("layers"), list, "the list of layers")
        diff_ids = _diff_ids(choice.config, len(described))
        layers = []
        for number, (descriptor, diff_id) in enumerate(zip(described, diff_ids, strict=True), 1):
            what = f"layer {number} of {len(described)}"
            if "encrypted" in str(_expect(descriptor, dict, what).get("mediaType")):
                raise ImageError(f"{what} is encrypted")
            blob, digest = self._blob(descriptor, what)
            layers.append(Packed(blob, digest, diff_id))
        annotations = _texts(choice.manifest.get("annotations"), "annotation")
        image_id = choice.manifest["config"]["digest"]
        return Found(_config(choice.config, choice.name, choice.digest, image_id, annotations), tuple(layers))


def _only(choices: list[_Choice], platform: str | None, tag: str) -> _Choice:
    """Return the one image that is meant: of the platform asked for, else of this machine, else the only one."""
    if not choices:
        raise ImageError(f"it holds no image named {tag!r}" if tag else "it holds no image")
    platforms = sorted({choice.platform for choice in choices})
    if platform is not None:
        fitting = [choice for choice in choices if _fits(choice.platform, platform)]
        if not fitting:
            raise ImageError(f"it has no image for {platform}, only for {', '.join(platforms)}")
    else:
        here = f"linux/{_ARCHITECTURES.get(machine.machine(), machine.machine())}"
        fitting = [choice for choice in choices if _fits(choice.platform, here)] or choices
        if len({choice.platform for choice in fitting}) > 1:
            raise ImageError(f"it has images for {', '.join(platforms)}: choose one with --platform")
    if len({choice.digest for choice in fitting}) > 1:
        named = ", ".join(sorted(choice.name or choice.digest for choice in fitting)[:20])
        raise ImageError(f"it holds several images ({named}): choose one by its tag, as in path:tag")
    return fitting[0]


_ARCHITECTURES = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def _platform(stated: Mapping[str, Any]) -> str:
    parts = [stated.get("os"), stated.get("architecture"), stated.get("variant")]
    if parts[1:] == ["arm64", "v8"]:
        parts[2] = None  # the only variant of arm64
    return "/".join(part for part in parts if isinstance(part, str) and part)


def _fits(held: str, asked: str) -> bool:
    """Tell whether a platform is the one asked for; a variant that is not asked for is free."""
    parts = asked.split("/")
    if parts[1:] == ["arm64", "v8"]:
        parts.pop()
    return held.split("/")[: len(parts)] == parts


def _diff_ids(config: Mapping[str, Any], layers: int) -> list[str]:
    rootfs = _expect(config.get("rootfs"), dict, "the configuration's rootfs")
    diff_ids = _expect(rootfs.get("diff_ids") or [], list, "the configuration's diff_ids")
    if len(diff_ids) != layers:
        raise ImageError(f"its configuration names {len(diff_ids)} layers, its manifest {layers}")
    for diff_id in diff_ids:
        algorithm_of(_expect(diff_id, str, "a diff_id"))
    return list(diff_ids)


def _config(
    config: Mapping[str, Any], name: str, digest: str, image_id: str, annotations: Mapping[str, str]
) -> ImageConfig:
    inner = config.get("config")
    inner = {} if inner is None else _expect(inner, dict, "the configuration's config")
    environ: dict[str, str] = {}
    for text in _expect(inner.get("Env") or [], list, "the configuration's Env"):
        key, _, value = _expect(text, str, "a variable of the configuration's Env").partition("=")
        environ[key] = value
    return ImageConfig(
        reference=name,
        digest=digest,
        image_id=image_id,
        platform=_platform(config),
        labels=_texts(inner.get("Labels"), "label"),
        annotations=annotations,
        environ=environ,
        diff_ids=tuple(config["rootfs"].get("diff_ids") or ()),
    )


def _docker(blobs: Blobs, images: list[Any], platform: str | None, tag: str, limits: Limits) -> Found:
    """Read the manifest.json of a docker-archive: a list of images, each with its tags and layer files."""
    choices = []
    for image in images[: limits.documents]:
        name = _expect(
            _expect(image, dict, "an image of manifest.json").get("Config"), str, "an image's Config"
        )
        config_blob = blobs.find(name)
        if config_blob is None:
            raise ImageError(f"its configuration {name[:200]} is missing")
        config = _load(config_blob, "its configuration", limits)
        digest = digest_of(config_blob, "sha256")
        stem = name.rpartition("/")[2].removesuffix(".json")
        if len(stem) == 64 and digest != f"sha256:{stem}":
            raise ImageError(f"its configuration does not match its digest (sha256:{stem})")
        tags = [
            _expect(text, str, "a tag") for text in _expect(image.get("RepoTags") or [], list, "RepoTags")
        ]
        fitting = [text for text in tags if tag in (text, text.rpartition(":")[2])] if tag else tags
        if not tag or fitting:
            choices.append(_Choice(_platform(config), (fitting or [""])[0], digest, image, config))
    choice = _only(choices, platform, tag)
    names = _expect(choice.manifest.get("Layers") or [], list, "an image's Layers")
    layers = []
    for number, (name, diff_id) in enumerate(
        zip(names, _diff_ids(choice.config, len(names)), strict=True), 1
    ):
        what = f"layer {number} of {len(names)}"
        blob = blobs.find(_expect(name, str, f"the name of {what}"))
        if blob is None:
            raise ImageError(f"{what} ({name[:200]}) is missing")
        layers.append(Packed(blob, "", diff_id))
    return Found(_config(choice.config, choice.name, "", choice.digest, {}), tuple(layers))
