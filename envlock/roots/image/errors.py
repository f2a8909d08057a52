"""What may be wrong with an image, and how much of it is read before that is an error."""

from dataclasses import dataclass

from envlock.errors import EnvlockError


class ImageError(EnvlockError):
    """An image that is damaged, hostile or of a kind that is not read; one sentence that names it."""


@dataclass(frozen=True)
class Limits:
    """Bounds on what one image may cost; real images of 40 GB with 800 000 files stay below all of them."""

    unpacked: int = 128 << 30
    """bytes that all layers may have after decompression"""
    ratio: int = 200
    """how many times larger than its blob a layer may become, once it is larger than ``ratio_floor``"""
    ratio_floor: int = 4 << 30
    """bytes that a layer may have whatever its ratio (a sparse lastlog of some GB is met in real images)"""
    entries: int = 1_000_000
    """files, folders and links in all layers together; about 200 bytes of memory each"""
    kept: int = 12 << 30
    """bytes of file content copied to the temporary folder"""
    document: int = 4 << 20
    """bytes of one JSON document; registries refuse larger manifests too"""
    documents: int = 1000
    """manifests and configurations looked at to find the platform asked for"""
    layers: int = 512
    """layers of one image; Docker stops at 127"""
