"""Images as real tools make them: buildah, umoci and skopeo, each kind of archive and compression."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from envlock.roots.folder import FolderRoot
from envlock.roots.image import ImageError, open_image
from tests.image_support import Buildah, tool


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """An image of three layers, built in a chroot, and what its container's files look like at the end."""
    path = tmp_path_factory.mktemp("buildah")
    buildah = Buildah(path)
    busybox = shutil.which("busybox")
    rootfs = path / "rootfs"
    for folder in ("bin", "etc", "opt/env/lib", "opt/old/sub", "tmp"):
        (rootfs / folder).mkdir(parents=True)
    (rootfs / "etc/os-release").write_text("ID=test\n")
    (rootfs / "opt/env/lib/libx.so.1.2").write_bytes(b"\x7fELF" + os.urandom(5_000_000))
    (rootfs / "opt/env/lib/libx.so.1").symlink_to("libx.so.1.2")
    (rootfs / "opt/env/lib/version.txt").write_text("1")
    os.link(rootfs / "opt/env/lib/version.txt", rootfs / "opt/env/version.txt")
    (rootfs / "opt/old/sub/x").write_text("x")
    (rootfs / "opt/absolute").symlink_to("/opt/env")
    container = buildah("from", "scratch")
    buildah("copy", container, str(rootfs), "/")
    buildah("config", "--env", "PATH=/opt/env/bin:/bin", "--env", "NVIDIA_REQUIRE_CUDA=cuda>=12.4", container)
    buildah("config", "--label", "org.example=yes", container)
    buildah("commit", "-q", container, "base")
    second = buildah("from", "base")
    mounted = Path(buildah("mount", second))
    (mounted / "opt/env/lib/version.txt").unlink()
    # Of another length: buildah does not see a change that keeps size and time.
    (mounted / "opt/env/lib/version.txt").write_text("second")
    shutil.rmtree(mounted / "opt/old")
    (mounted / "opt/env/lib/libx.so.1").unlink()
    if busybox:
        shutil.copy(busybox, mounted / "bin/busybox")
        buildah("run", second, "/bin/busybox", "ln", "-s", "../env", "/opt/link")
    buildah("commit", "-q", second, "app:1")
    third = buildah("from", "app:1")
    mounted = Path(buildah("mount", third))
    (mounted / "opt/old").write_text("now a file")
    (mounted / "opt/env/lib/libx.so.1").write_text("now a library")
    buildah("commit", "-q", third, "app:2")
    return buildah, path, str(mounted)


def compare(folder, image, path="/"):
    """Hold an image to the container's own files: names, kinds, links, sizes and what was kept."""
    mine, theirs = image.scan(path), folder.scan(path)
    assert mine == theirs
    for entry in mine:
        inside = path.rstrip("/") + "/" + entry.name
        if entry.is_link:
            assert image.readlink(inside) == folder.readlink(inside)
        elif entry.is_dir:
            compare(folder, image, inside)
        elif entry.is_file:
            assert image.stat(inside).size == folder.stat(inside).size
            try:
                content = image.read(inside)
            except OSError as error:
                assert "not kept" in str(error)
            else:
                assert content == folder.read(inside)


FORMATS = {
    "oci": ["oci:{path}/oci:2"],
    "oci-zstd": ["--compression-format", "zstd", "oci:{path}/oci-zstd:2"],
    "oci-plain": ["--disable-compression", "oci:{path}/oci-plain:2"],
    "oci.tar": ["oci-archive:{path}/oci.tar:2"],
    "docker.tar": ["docker-archive:{path}/docker.tar:app:2"],
}


@pytest.mark.parametrize("name", FORMATS)
def test_what_buildah_pushes_is_what_its_container_holds(built, name):
    buildah, path, mounted = built
    if "zstd" in name:
        pytest.importorskip("zstandard")
    buildah("push", *FORMATS[name][:-1], "app:2", FORMATS[name][-1].format(path=path))
    with open_image(f"{path}/{name}") as image:
        assert image.environ["NVIDIA_REQUIRE_CUDA"] == "cuda>=12.4"
        assert image.config.labels["org.example"] == "yes"
        assert image.config.image_id == "sha256:" + buildah("images", "-q", "--no-trunc", "app:2")[7:]
        assert image.is_file("/opt/old")
        assert image.read("/opt/absolute/lib/version.txt") == b"second"
        assert image.read("/opt/env/version.txt") == b"1"
        compare(FolderRoot(mounted), image)


def test_docker_save_through_a_pipe(built):
    buildah, path, mounted = built
    buildah("push", "app:2", f"docker-archive:{path}/piped.tar:app:2")
    with (
        subprocess.Popen(["cat", f"{path}/piped.tar"], stdout=subprocess.PIPE) as cat,
        open_image(cat.stdout) as image,
    ):
        compare(FolderRoot(mounted), image)


def test_two_architectures_copied_by_skopeo(built):
    skopeo = tool("skopeo")
    buildah, path, _ = built
    for arch in ("amd64", "arm64"):
        container = buildah("from", "app:2")
        buildah("config", "--arch", arch, "--env", f"ARCH={arch}", container)
        buildah("commit", "-q", container, f"app:{arch}")
    buildah("manifest", "create", "both")
    buildah("manifest", "add", "--arch", "amd64", "--os", "linux", "both", "app:amd64")
    buildah("manifest", "add", "--arch", "arm64", "--os", "linux", "both", "app:arm64")
    buildah("manifest", "push", "--all", "both", f"oci:{path}/both:all")
    command = [skopeo, "--insecure-policy", "copy", "--all", f"oci:{path}/both:all", f"oci:{path}/copied:all"]
    subprocess.run(command, check=True, capture_output=True)
    for layout in ("both", "copied"):
        for arch in ("amd64", "arm64"):
            with open_image(f"{path}/{layout}", platform=f"linux/{arch}") as image:
                assert image.environ["ARCH"] == arch
                assert image.config.platform == f"linux/{arch}"
        with pytest.raises(ImageError, match="only for linux/amd64, linux/arm64"):
            open_image(f"{path}/{layout}", platform="linux/ppc64le").__enter__()


def test_a_layer_that_umoci_adds(built):
    """umoci writes whiteouts and hard links of its own kind."""
    umoci = tool("umoci")
    buildah, path, _ = built
    buildah("push", "app:2", f"oci:{path}/umoci:2")

    def run(*arguments):
        subprocess.run([umoci, *arguments], check=True, capture_output=True)

    run("unpack", "--image", f"{path}/umoci:2", f"{path}/bundle")
    rootfs = path / "bundle/rootfs"
    (rootfs / "opt/env/version.txt").unlink()
    shutil.rmtree(rootfs / "etc")
    os.link(rootfs / "opt/env/lib/version.txt", rootfs / "opt/version.txt")
    (rootfs / "opt/link2").symlink_to("env/lib")
    run("repack", "--image", f"{path}/umoci:3", f"{path}/bundle")
    run("config", "--image", f"{path}/umoci:3", "--config.env", "ADDED=yes")
    with open_image(f"{path}/umoci:3") as image:
        assert image.environ["ADDED"] == "yes"
        assert image.read("/opt/version.txt") == b"second"
        compare(FolderRoot(str(rootfs)), image)
    assert json.loads((path / "umoci/index.json").read_text())["manifests"]
