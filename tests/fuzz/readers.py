"""The readers of outside data, by name: each a function of bytes that may raise nothing.

What a reader documents (EnvlockError and its kind) is caught here; whatever else comes out is a finding, and so
is a result that cannot be written, does not read back, or carries a control character to a terminal.
"""

import functools
import io
import json
import os
import re
import struct
import tarfile
import tempfile

import msgspec

import envlock
from envlock.cli.options import read_json
from envlock.compare import explain, symptoms
from envlock.compare.changes import changes
from envlock.errors import EnvlockError
from envlock.fleet import store
from envlock.imports import read_report
from envlock.locks.model import Choice, Target
from envlock.locks.reference import Reference
from envlock.locks.update import update
from envlock.manifest.model import Manifest
from envlock.manifest.write import write
from envlock.matrix.loader import load as load_matrix
from envlock.probe import conda, elf, fatbin, loader, pip, rpm, system_packages, target
from envlock.probe.collect import start
from envlock.reports import markdown, story, text
from envlock.reports.style import Style
from envlock.roots.image import Limits, open_image
from envlock.roots.image.layers import Budget, Kept
from envlock.roots.image.squashfs import partition, read_listing
from envlock.roots.image.stream import Blob, Stream
from envlock.roots.image.tree import Layer
from tests.fuzz.root import MemoryRoot
from tests.image_support import walk

SITE = "/venv/lib/python3.11/site-packages"
ENVIRONMENT = target.Target(
    prefix="/venv", executable="/venv/bin/python", kind="conda", site_packages=[target.SitePath(SITE, "site")],
    base_prefix="/venv", minor="3.11", implementation="CPython", free_threaded=False, config={}, base_executable="",
    user_site=None,
)  # fmt: skip
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What no line on a terminal may hold."""

EXAMPLES = os.path.join(os.path.dirname(__file__), "..", "..", "examples")


@functools.lru_cache(maxsize=1)
def matrix():
    return load_matrix()


@functools.lru_cache(maxsize=1)
def healthy():
    with open(os.path.join(EXAMPLES, "train-h100.toml"), encoding="utf-8") as file:
        content = file.read()
    return content, store.parse(content.encode(), "toml", "healthy.toml")


def on_disk(content):
    """Return the path of a file with this content, the same one each time."""
    path = _scratch()
    with open(path, "wb") as file:
        file.write(content)
    return path


@functools.lru_cache(maxsize=1)
def _scratch():
    folder = tempfile.TemporaryDirectory(
        prefix="envlock-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None
    )
    _scratch.folder = folder  # it goes with the process
    return os.path.join(folder.name, "input")


def writes_and_reads_back(manifest):
    written = write(manifest)
    assert not CONTROL.search(written), "a control character in the manifest"
    again = store.parse(written.encode(), "toml", "again")
    assert write(again) == written, "what was written does not read back as the same"
    return again


def refuses(*kinds):
    """Return a reader that takes these errors for an answer."""

    def wrap(read):
        @functools.wraps(read)
        def reader(data):
            try:
                read(data)
            except kinds as error:
                assert str(error), "an error without a word"

        return reader

    return wrap


# ---- manifests, locks, fleets ---------------------------------------------------------------------------


@refuses(EnvlockError)
def manifest_toml(data):
    writes_and_reads_back(store.parse(data, "toml", "m.toml"))


@refuses(EnvlockError)
def manifest_json(data):
    writes_and_reads_back(store.parse(data, "json", "m.json"))


@refuses(EnvlockError)
def checked(data):
    """Run every rule on any manifest, and compare it with another one."""
    manifest = store.parse(data, "toml", "m.toml")
    _, other = healthy()
    result = envlock.check(manifest)
    difference = envlock.diff(manifest, other)
    for shown in (
        text.check(result, Style(colour=False), everything=True),
        text.difference(difference, Style(colour=False), everything=True),
        markdown.page(story.of_check(result, manifest, "m", everything=True), everything=True),
    ):
        assert not CONTROL.search(shown), "a control character in a report"


@refuses(EnvlockError)
def updated(data):
    """Edit any lock's text."""
    content = data.decode("utf-8-sig", "replace")
    lock = store.parse(content.encode(), "toml", "m.toml")
    update(content, lock, healthy()[1])


@refuses(EnvlockError)
def probe_document(data):
    writes_and_reads_back(envlock.from_observation(read_json(on_disk(data))))


@refuses(EnvlockError)
def matrix_file(data):
    load_matrix([on_disk(data)])


@refuses(EnvlockError)
def fleet_lines(data):
    for entry in store.entries(on_disk(data)):
        assert not CONTROL.search(entry.node)
        if entry.failed is None:
            entry.load()
        else:
            assert not CONTROL.search(entry.failed)


@refuses(EnvlockError)
def fleet_index(data):
    index = os.path.join(os.path.dirname(_scratch()), store.INDEX)
    with open(index, "wb") as file:
        file.write(data)
    for entry in store.entries(os.path.dirname(index)):
        assert not CONTROL.search(entry.node)


def _lock(kind, data):
    lock = Reference("a/lock", kind, data.decode("utf-8", "replace")).parse()
    markers = {"python_version": "3.11", "python_full_version": "3.11.9", "sys_platform": "linux", "os_name": "posix",
               "platform_machine": "x86_64", "platform_system": "Linux", "implementation_name": "cpython"}  # fmt: skip
    for choice in (Choice(), Choice(lock.extras, lock.groups)):
        lock.select(Target(markers, "linux-64"), choice)


def lock(kind):
    return refuses(EnvlockError)(functools.partial(_lock, kind))


# ---- what is pasted -------------------------------------------------------------------------------------


@refuses(EnvlockError)
def paste(data):
    facts = read_report(data.decode("utf-8", "replace"))
    writes_and_reads_back(msgspec.convert(facts, Manifest))


def log(data):
    lines = data.decode("utf-8", "replace").splitlines(keepends=True)
    found, _ = explain.read(lines, matrix())
    told = symptoms.read_symptoms(lines, _changes(), matrix())
    shown = [each.text for each in found] + [pointer.line for pointer in told.addresses.values()]
    assert all(len(line) < 1000 for line in shown), "an excerpt without end"


@functools.lru_cache(maxsize=1)
def _changes():
    with open(os.path.join(EXAMPLES, "old-driver.toml"), "rb") as file:
        return changes(store.parse(file.read(), "toml", "old"), healthy()[1])


# ---- what lies on a machine -----------------------------------------------------------------------------


def _distribution(name, data):
    files = {
        "METADATA": b"Metadata-Version: 2.1\nName: numpy\nVersion: 1.26.4\n",
        "RECORD": b"numpy/__init__.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\n",
        name: data,
    }
    root = MemoryRoot({f"{SITE}/numpy-1.26.4.dist-info/{each}": content for each, content in files.items()})
    seen = pip.read_pip(root, ENVIRONMENT, [])
    pip.verify_files(root, ENVIRONMENT, [], {})
    document = {
        "schema": "envlock-observation/1",
        "source": "root",
        "facts": seen.facts,
        "unobserved": seen.unobserved,
    }
    document["requires_dist"] = seen.facts.pop("_requires_dist", {})
    document["markers"] = seen.facts.pop("_markers", {})
    writes_and_reads_back(envlock.from_observation(document))


def dist_info(name):
    return functools.partial(_distribution, name)


def conda_meta(data):
    root = MemoryRoot({"/venv/conda-meta/numpy-1.26.4-py311_0.json": data})
    records, broken = conda.read_records(root, "/venv")
    assert records or broken
    conda.verify_conda_files(root, ENVIRONMENT, {})


def elf_file(data):
    file = io.BytesIO(data)
    try:
        head = elf.read_elf(file)
    except elf.ElfError:
        return
    for read in (
        elf.read_sections,
        elf.read_needed_versions,
        lambda file, head: elf.newest_version(elf.read_defined_versions(file, head), "GLIBCXX_"),
        fatbin.read_gpu_code,
    ):
        try:
            read(file, head)
        except elf.ElfError:
            continue


def fat_binary(data):
    """An ELF file that is sound, around a section of anything."""
    names = b"\0.nv_fatbin\0.shstrtab\0"
    start = 64 + 3 * 64 + len(names)
    head = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, 64, 0, 64, 0, 0, 64, 3, 2)
    )
    rows = [(0,) * 10, (1, 1, 0, 0, start, len(data), 0, 0, 8, 0), (12, 3, 0, 0, 256, len(names), 0, 0, 1, 0)]
    content = head + b"".join(struct.pack("<IIQQQQIIQQ", *row) for row in rows) + names + data
    try:
        code = fatbin.read_gpu_code(io.BytesIO(content))
    except elf.ElfError:
        return
    fatbin.supported(code.archs)


def ld_so_cache(data):
    for soname, entry in loader.parse_cache(data):
        assert soname and entry.path.startswith("/")


def ld_so_conf(data):
    root = MemoryRoot({"/etc/ld.so.conf": data, "/etc/ld.so.conf.d/a.conf": data})
    loader.read_ld_so_conf(root)


def system(path):
    def read(data):
        root = MemoryRoot({path: data})
        seen = system_packages.read_system_packages(root, everything=True)
        json.dumps(seen.facts)
        system_packages.owners(
            root, ["/usr/lib/x86_64-linux-gnu/libcudnn.so.9.1.0", "/usr/local/cuda-12.4/lib64/a.so"]
        )

    return read


def rpm_header(data):
    package = rpm.read_package(data)
    assert package is None or package.name
    list(rpm.read_files(data))


_MACHINE = (
    "/etc/os-release", "/proc/driver/nvidia/version", "/proc/cpuinfo", "/usr/local/cuda/version.json",
    "/usr/local/cuda/version.txt", "/venv/pyvenv.cfg", f"{SITE}/a.pth", f"{SITE}/a.egg-link", "/etc/ld.so.preload",
    "/proc/meminfo", "/proc/driver/nvidia/gpus/0000:01:00.0/information", "/etc/nv_tegra_release",
    f"{SITE}/torch/version.py", f"{SITE}/torch/lib/libtorch_cuda.so", "/proc/self/mountinfo", "/etc/debian_version",
    f"{SITE}/jaxlib/version.py", f"{SITE}/tensorflow/include/tensorflow/core/public/version.h", "/proc/version",
    "/usr/include/nccl.h", "/usr/include/cudnn_version.h", "/venv/bin/python", f"{SITE}/a.egg-info",
    f"{SITE}/nvidia/cudnn/lib/libcudnn.so.9", f"{SITE}/b.egg-info/PKG-INFO", f"{SITE}/b.egg-info/requires.txt",
)  # fmt: skip


def machine(data):
    """Run every probe over a machine of which one file, told by the first byte, holds anything."""
    files = {
        "/venv/bin/python": b"\x7fELF",
        "/venv/lib/python3.11/os.py": b"",
        f"{SITE}/numpy-1.26.4.dist-info/METADATA": b"Name: numpy\nVersion: 1.26.4\n",
        f"{SITE}/torch-2.4.0.dist-info/METADATA": b"Name: torch\nVersion: 2.4.0\n",
        f"{SITE}/torch/version.py": b"__version__ = '2.4.0+cu124'\ncuda = '12.4'\n",
        _MACHINE[data[0] % len(_MACHINE) if data else 0]: data[1:],
    }
    document = start(MemoryRoot(files), prefix="/venv")()
    for address, reason in document["unobserved"].items():
        assert "reading it failed" not in reason, f"{address}: {reason}"
    writes_and_reads_back(envlock.from_observation(json.loads(json.dumps(document))))


# ---- images ---------------------------------------------------------------------------------------------

_SMALL = Limits(unpacked=64 << 20, ratio_floor=4 << 20, entries=20_000, kept=4 << 20, documents=20)


@refuses(EnvlockError)
def image(data):
    with open_image(io.BytesIO(data), limits=_SMALL) as root:
        walk(root, "/", 0)


def layer(data):
    """An archive that is sound, around a layer of anything: every digest is of these bytes."""
    import hashlib

    digest = hashlib.sha256(data).hexdigest()
    config = {
        "os": "linux",
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [], "Layers": ["layer.tar"]}]
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in (
            ("config.json", json.dumps(config).encode()),
            ("manifest.json", json.dumps(manifest).encode()),
            ("layer.tar", data),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    image(archive.getvalue())


@refuses(EnvlockError)
def sif(data):
    with open(on_disk(data), "rb") as file:
        partition(Blob(file.fileno(), 0, len(data)))


@refuses(EnvlockError)
def squashfs_listing(data):
    """What unsquashfs prints of an image, whose names are the image's."""
    budget = Budget(_SMALL)
    read_listing(Stream([data]), Layer(0, budget.entries), Kept(None, None, budget), lambda *_: False, False)


READERS = {
    "checked": checked,
    "conda-explicit": lock("conda-explicit"),
    "conda-lock": lock("conda-lock"),
    "conda-meta": conda_meta,
    "apk": system("/lib/apk/db/installed"),
    "direct-url": dist_info("direct_url.json"),
    "dpkg": system("/var/lib/dpkg/status"),
    "dpkg-list": system("/var/lib/dpkg/info/libcudnn9-cuda-12.list"),
    "elf": elf_file,
    "environment-yml": lock("environment-yml"),
    "fatbin": fat_binary,
    "fleet-index": fleet_index,
    "fleet-lines": fleet_lines,
    "image": image,
    "layer": layer,
    "ld-so-cache": ld_so_cache,
    "ld-so-conf": ld_so_conf,
    "log": log,
    "machine": machine,
    "manifest-json": manifest_json,
    "manifest-toml": manifest_toml,
    "matrix-file": matrix_file,
    "metadata": dist_info("METADATA"),
    "paste": paste,
    "pixi-lock": lock("pixi"),
    "probe-document": probe_document,
    "pylock": lock("pylock"),
    "record": dist_info("RECORD"),
    "requirements": lock("requirements"),
    "rpm-bdb": system("/var/lib/rpm/Packages"),
    "rpm-header": rpm_header,
    "rpm-ndb": system("/var/lib/rpm/Packages.db"),
    "rpm-sqlite": system("/var/lib/rpm/rpmdb.sqlite"),
    "sif": sif,
    "squashfs-listing": squashfs_listing,
    "updated": updated,
    "uv-lock": lock("uv"),
}
"""A reader's name, as in corpus/ and on the command line, and the function that gives it bytes."""
