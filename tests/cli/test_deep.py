"""``envlock capture --deep``: files beside their packages' own records, in a venv, a conda prefix and an image."""

from pathlib import Path

import pytest

import envlock
from envlock.manifest.read import loads
from envlock.roots.image import open_image
from tests.cli.support import run
from tests.image_support import docker_archive, file, folder, layer
from tests.packages_support import (
    below,
    clean_environ,
    conda_install,
    conda_package,
    dist_info,
    pip,
    virtualenv,
    wheel,
)

SITE = "lib/python3.11/site-packages"
BIG = "x" * (1 << 20)


def deep(*arguments):
    done = run("capture", "--deep", "--reproducible", *arguments, env=clean_environ())
    assert done.returncode == 0, done.stderr
    return loads(done.stdout)


def test_pip_files_edited_and_missing_are_named(tmp_path):
    prefix = Path(virtualenv(tmp_path / "venv"))
    modules = {
        "alpha/__init__.py": "",
        "alpha/x.py": "a = 1\n",
        "alpha/y.py": "b = 2\n",
        "alpha/z.py": "c = 3\n",
    }
    made = [
        wheel(tmp_path / "wheels", "alpha", "1.0", modules),
        wheel(tmp_path / "wheels", "beta", "2.0", {"beta.py": ""}),
    ]
    pip(prefix, "install", "-q", "--no-index", "--no-deps", *made)
    package = next(prefix.glob("lib/python3.*/site-packages")) / "alpha"
    assert all(each.modified == () for each in deep("--prefix", prefix).package.pip.values())
    (package / "x.py").write_text("a = 9\n")  # the same size
    (package / "y.py").unlink()
    seen = deep("--prefix", prefix)
    assert seen.package.pip["alpha"].modified == (str(package / "x.py"), str(package / "y.py"))
    assert seen.package.pip["beta"].modified == ()
    assert not any("modified" in address for address in seen.capture.unobserved)
    # Without --deep nobody has looked.
    usual = loads(run("capture", "--prefix", prefix, env=clean_environ()).stdout)
    assert usual.package.pip["alpha"].modified == ()


def test_conda_files_edited_and_missing_are_named(tmp_path):
    channel = tmp_path / "channel"
    python = {"bin/python3.11": b"\x7fELF", "lib/python3.11/os.py": b""}
    conda_package(channel, "python", "3.11.9", "h955ad1f_0_cpython", python)
    files = {"lib/libtool.txt": b"one", "share/tool/a": b"two", "share/tool/b": b"three"}
    conda_package(channel, "tool", "2.1", "h1_0", files)
    prefix = Path(conda_install(channel, tmp_path / "conda", ["python", "tool"]))
    assert all(each.modified == () for each in deep("--prefix", prefix).package.conda.values())
    # The package cache may be linked to: a new file in its place, as an editor writes it.
    (prefix / "share/tool/a").unlink()
    (prefix / "share/tool/a").write_bytes(b"owt")
    (prefix / "lib/libtool.txt").unlink()
    seen = deep("--prefix", prefix)
    assert seen.package.conda["tool"].modified == (f"{prefix}/lib/libtool.txt", f"{prefix}/share/tool/a")
    assert seen.package.conda["python"].modified == ()


@pytest.fixture
def image(tmp_path):
    """An image whose second layer edits one file of a package and takes another away."""
    files = dist_info(
        "alpha",
        "1.0",
        {"alpha/__init__.py": "", "alpha/x.py": "a = 1\n", "alpha/y.py": "b = 2\n", "alpha/data.bin": BIG},
    )
    site = f"opt/venv/{SITE}"
    venv = {
        "opt/venv/bin/python": b"\x7fELF",
        "opt/venv/pyvenv.cfg": b"home = /usr/bin\nversion = 3.11.9\n",
        **below(site, files),
    }
    folders = sorted({str(above) for path in venv for above in Path(path).parents} - {"."})
    base = layer(*map(folder, folders), *(file(path, content) for path, content in venv.items()))
    top = layer(file(f"{site}/alpha/x.py", b"a = 9\n"), file(f"{site}/alpha/.wh.y.py"))
    return docker_archive(tmp_path / "app.tar", base, top, env=["VIRTUAL_ENV=/opt/venv"])


def test_an_image_is_compared_as_a_machine_is(image):
    seen = deep("--image", image)
    names = ("x.py", "y.py")
    assert seen.package.pip["alpha"].modified == tuple(f"/opt/venv/{SITE}/alpha/{name}" for name in names)


def test_a_file_whose_content_the_image_was_opened_without_is_not_called_modified(image):
    with open_image(image) as root:
        seen = envlock.capture(root, deep=True)
    # Gone is gone, and of another size is another; of equal size nothing can be said.
    assert seen.package.pip["alpha"].modified == (f"/opt/venv/{SITE}/alpha/y.py",)
    reason = seen.capture.unobserved["package.pip.alpha.modified"]
    assert "cannot be compared" in reason and "not kept" in reason
