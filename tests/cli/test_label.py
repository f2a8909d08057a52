"""A lock baked into its image is found there, held to its label, and refused where the two differ."""

import json
import re

import pytest

from tests.cli.support import run
from tests.image_support import Layout, docker_archive, file, folder, layer, link, sha256, tool

BAKED = "etc/envlock/env.toml"


@pytest.fixture
def lock(tmp_path):
    """Return the lock of an image that holds an os-release and nothing else."""
    base = Layout(tmp_path / "base").of(layer(file("etc/os-release", "ID=debian\nVERSION_ID=12\n")))
    path = tmp_path / "env.toml"
    done = run("capture", "--image", str(base), "-o", path, "--reproducible")
    assert done.returncode == 0, done.stderr
    return path


def image(folder_, text, *, version="12", digest=None, annotation=None, path=BAKED, how="gzip"):
    """Build an image with a lock in it."""
    layout = Layout(folder_)
    content = text.encode() if isinstance(text, str) else text
    files = [file("etc/os-release", f"ID=debian\nVERSION_ID={version}\n")]
    files += [file(path, content)] if content is not None else []
    labels = {"envlock.lock.digest": digest} if digest else None
    descriptor = layout.image(layer(*files), labels=labels, how=how)
    if annotation:
        manifest = json.loads((layout.path / "blobs" / "sha256" / descriptor["digest"][7:]).read_bytes())
        manifest["annotations"] = {"envlock.lock.digest": annotation}
        descriptor = layout.blob(manifest, manifest["mediaType"], platform=descriptor["platform"])
    return str(layout.add(descriptor))


def test_the_lines_are_a_dockerfile_s_and_name_the_file_and_its_digest(lock, tmp_path):
    done = run("label", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    plain = [line for line in done.stdout.replace("\\\n", "").splitlines() if not line.startswith("#")]
    copy, label = plain
    assert json.loads(copy.removeprefix("COPY ")) == ["env.toml", "/etc/envlock/env.toml"]
    assert dict(re.findall(r'([\w.]+)="([^"]*)"', label)) == {
        "envlock.lock.digest": sha256(lock.read_bytes()),
        "envlock.lock.path": "/etc/envlock/env.toml",
    }
    assert f"--label envlock.lock.digest={sha256(lock.read_bytes())}" in done.stdout


@pytest.mark.parametrize("name", ["two words.toml", "a$HOME.toml", 'quo"te.toml'])
def test_any_file_name_can_be_copied(lock, tmp_path, name):
    (tmp_path / name).write_bytes(lock.read_bytes())
    copy = next(
        line for line in run("label", name, cwd=tmp_path).stdout.splitlines() if line.startswith("COPY")
    )
    (source, _) = json.loads(copy.removeprefix("COPY "))
    # Docker puts variables in where no backslash stands before the sign.
    assert source.replace("\\$", "$") == name and not re.search(r"(?<!\\)\$", source)


def test_a_lock_outside_the_build_context_is_said_to_need_a_copy(lock, tmp_path):
    below = tmp_path / "context"
    below.mkdir()
    printed = run("label", "../env.toml", cwd=below).stdout
    assert "Copy ../env.toml into the build context first." in printed and 'COPY ["env.toml",' in printed


def test_only_a_manifest_is_baked_in(tmp_path):
    (tmp_path / "env.toml").write_text("[project]\n")
    for arguments, sentence in (
        ((), "not an envlock manifest"),
        (("none.toml",), "cannot read none.toml"),
        (("-",), "name the lock"),
    ):
        done = run("label", *arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "") and sentence in done.stderr, done.stderr


@pytest.mark.parametrize("where", ["label", "annotation", "neither"])
def test_the_image_s_own_lock_is_found(lock, tmp_path, where):
    digest = sha256(lock.read_bytes())
    options = {"label": {"digest": digest}, "annotation": {"annotation": digest}}.get(where, {})
    same = image(tmp_path / "same", lock.read_text(), **options)
    done = run("verify", "--image", same)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout == f"fine: matches /etc/envlock/env.toml of image {same}\n"


def test_drift_from_the_baked_lock_is_told_without_a_command_that_could_not_work(lock, tmp_path):
    moved = image(tmp_path / "moved", lock.read_text(), version="13", digest=sha256(lock.read_bytes()))
    done = run("verify", "--image", moved)
    assert done.returncode == 1 and "os.version  12 -> 13" in done.stdout
    assert "envlock update" not in done.stdout
    found = json.loads(run("verify", "--image", moved, "--json").stdout)
    assert [change["address"] for change in found["changes"]] == ["os.version"]
    annotated = run("verify", "--image", moved, "--format", "github").stdout
    assert annotated.startswith("::error title=envlock%3A drift::os.version: locked as 12, is 13\n")


def test_a_docker_archive_and_standard_input_carry_their_lock_too(lock, tmp_path):
    content = layer(file("etc/os-release", "ID=debian\nVERSION_ID=12\n"), file(BAKED, lock.read_bytes()))
    archive = docker_archive(tmp_path / "app.tar", content)
    assert run("verify", "--image", archive).stdout.startswith("fine")
    import subprocess
    import sys

    from tests.cli.support import TOP

    with open(archive, "rb") as stream:
        done = subprocess.run(
            [sys.executable, "-m", "envlock", "verify", "--image", "-"],
            stdin=stream, capture_output=True, text=True, cwd=TOP, check=False,
        )  # fmt: skip
    assert done.stdout == "fine: matches /etc/envlock/env.toml of the image on standard input\n", done.stderr


def test_a_root_folder_carries_its_lock(lock, tmp_path):
    root = tmp_path / "root"
    (root / "etc" / "envlock").mkdir(parents=True)
    (root / "etc" / "os-release").write_text("ID=debian\nVERSION_ID=12\n")
    (root / BAKED).write_bytes(lock.read_bytes())
    done = run("verify", "--root", root)
    assert done.stdout == f"fine: matches /etc/envlock/env.toml of {root}\n", done.stderr


@pytest.mark.parametrize("where", ["digest", "annotation"])
def test_a_label_of_another_lock_is_an_error(lock, tmp_path, where):
    wrong = image(tmp_path / "wrong", lock.read_text(), **{where: sha256(b"another")})
    done = run("verify", "--image", wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert "envlock.lock.digest" in done.stderr and sha256(lock.read_bytes()) in done.stderr
    # A lock that is named is what counts; the label is then nobody's business.
    assert run("verify", lock, "--image", wrong).returncode == 0


def test_an_image_without_a_lock_names_the_path_and_the_way_out(lock, tmp_path):
    bare = image(tmp_path / "bare", lock.read_text(), path="opt/other.toml")
    done = run("verify", "--image", bare)
    assert (done.returncode, done.stdout) == (2, "")
    assert "/etc/envlock/env.toml" in done.stderr and "envlock label" in done.stderr


def test_no_lock_and_no_image_is_a_usage_error(lock):
    for arguments in ((), ("--against", lock), ("--image", "app.tar", "--against", lock)):
        done = run("verify", *arguments)
        assert done.returncode == 2 and "Missing LOCK" in done.stderr


HOSTILE = {
    "not UTF-8": (b"\xff\xfe", "not UTF-8"),
    "not TOML": (b"= = =", "not TOML"),
    "no manifest": (b"a = 1\n", "not an envlock manifest"),
    "too large": (b"#" * (17 * 2**20), "content not kept"),
}


@pytest.mark.parametrize(("content", "sentence"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_baked_lock_is_one_sentence(tmp_path, content, sentence):
    evil = image(tmp_path / "evil", content, digest=sha256(content))
    done = run("verify", "--image", evil)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr and "/etc/envlock/env.toml" in done.stderr
    assert "Traceback" not in done.stderr and done.stderr.count("\n") == 1


def test_a_baked_lock_that_is_a_link_leads_nowhere_outside(lock, tmp_path):
    members = [folder("etc"), folder("etc/envlock"), link(BAKED, str(lock))]
    evil = str(Layout(tmp_path / "evil").of(layer(file("etc/os-release", "ID=debian\n"), *members)))
    done = run("verify", "--image", evil)
    assert (done.returncode, done.stdout) == (2, "") and "carries none" in done.stderr
    root = tmp_path / "root"
    (root / "etc" / "envlock").mkdir(parents=True)
    (root / BAKED).symlink_to(lock)
    done = run("verify", "--root", root)
    assert (done.returncode, done.stdout) == (2, "") and "carries none" in done.stderr


def test_a_hostile_label_is_printed_safely(lock, tmp_path):
    evil = image(tmp_path / "evil", lock.read_text(), digest="\x1b]0;owned\x07" + "x" * 5000)
    done = run("verify", "--image", evil)
    assert done.returncode == 2 and "\x1b" not in done.stderr and len(done.stderr) < 1500


def test_the_printed_lines_build_an_image_that_verifies(lock, tmp_path):
    """The lines as they are, through a real builder: COPY and LABEL need no program in the image."""
    from tests.image_support import Buildah

    tool("buildah")
    buildah = Buildah(tmp_path / "buildah")
    context = tmp_path / "context"
    (context / "etc").mkdir(parents=True)
    (context / "etc" / "os-release").write_text("ID=debian\nVERSION_ID=12\n")
    (context / "env.toml").write_bytes(lock.read_bytes())
    printed = run("label", cwd=context).stdout
    (context / "Dockerfile").write_text("FROM scratch\nCOPY etc /etc\n" + printed)
    buildah("build", "--tag", "app", str(context))
    buildah("push", "app", f"docker-archive:{tmp_path}/app.tar:app:latest")
    done = run("verify", "--image", tmp_path / "app.tar")
    assert done.returncode == 0, done.stdout + done.stderr
