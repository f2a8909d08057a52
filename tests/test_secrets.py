"""A red team's round: forty kinds of secrets are planted wherever a stack can hold them, and none comes out anywhere."""

import json
import os
from pathlib import Path

import pytest

from tests.cli.support import run
from tests.image_support import Layout, file, layer, link
from tests.packages_support import below, dist_info, wheel, write

TAIL = "Zq9xW2vB7n"
"""In every secret; no output may hold it."""

TOKENS = {
    "aws access key": "AKIA" + "ZQ9XW2VB7NABCDEF",
    "github": f"ghp_{TAIL}abcdefabcdefabcdef",
    "github fine-grained": f"github_pat_{TAIL}_abcdefabcdefabcdef",
    "hugging face": f"hf_{TAIL}abcdefabcdefabcdef",
    "openai": f"sk-proj-{TAIL}-abcdefabcdef",
    "nvidia": f"nvapi-{TAIL}-abcdefabcdef",
    "google": f"AIza{TAIL}abcdefabcdefabcdefabcde",
    "gitlab": f"glpat-{TAIL}-abcdefabcd",
    "npm": f"npm_{TAIL}abcdefabcdef",
    "pypi": f"pypi-AgEI{TAIL}abcdef",
    "slack": f"xoxb-1234-{TAIL}",
    "docker": f"dckr_pat_{TAIL}abcdef",
    "json web token": f"eyJhbGciOiJI.eyJzdWIi{TAIL}.c2ln",
}

VARIABLES = {
    "HF_TOKEN": f"hf-{TAIL}",
    "HUGGING_FACE_HUB_TOKEN": TAIL,
    "WANDB_API_KEY": TAIL,
    "AWS_SECRET_ACCESS_KEY": TAIL,
    "AWS_SESSION_TOKEN": TAIL,
    "NGC_API_KEY": TAIL,
    "NVIDIA_API_KEY": TAIL,
    "MLFLOW_TRACKING_PASSWORD": TAIL,
    "JUPYTER_TOKEN": TAIL,
    "RAY_REDIS_PASSWORD": TAIL,
    "TORCH_DISTRIBUTED_SECRET": TAIL,
    "PYTHON_KEYRING_PASSWORD": TAIL,
    "HTTPS_PROXY": f"http://me:{TAIL}@proxy.example.org:3128",
    "http_proxy": f"me:{TAIL}@proxy.example.org:3128",
    "PIP_INDEX_URL": f"https://__token__:{TAIL}@pypi.example.org/simple",
    "UV_EXTRA_INDEX_URL": f"https://{TAIL}@pypi.example.org/simple",
    "TF_GCS_SIGNED": f"https://storage.example.org/x?X-Goog-Signature={TAIL}",
    "NCCL_CONF_URL": f"https://h.example.org/nccl.conf?token={TAIL}",
    "CUDA_DOWNLOAD": f"https://h.example.org/cuda?sv=1&sig={TAIL}",
    "HF_ENDPOINT": f"https://user:{TAIL}@hub.example.org",
    "CONDA_CHANNEL_ALIAS": f"https://conda.example.org/t/{TAIL}/",
    "TORCH_LOGS": f"Authorization: Bearer {TAIL}abcdefabcdef",
    "PYTORCH_BUILD": f"--password={TAIL}",
    **{f"TORCH_NOTE_{number}": f"see {token} there" for number, token in enumerate(TOKENS.values())},
}

ORIGINS = {
    "tokenhost": f"https://{TAIL}@git.example.org/acme/tokenhost.git",
    "userpass": f"https://oauth2:{TAIL}@git.example.org/acme/userpass.git",
    "netrclike": f"https://me:{TAIL}%21@git.example.org/acme/netrclike.git",
    "slashed": f"https://me:{TAIL}/x@git.example.org/acme/slashed.git",
    "query": f"https://h.example.org/query-1.0-py3-none-any.whl?access_token={TAIL}",
    "signed": f"https://bucket.example.org/signed-1.0-py3-none-any.whl?X-Amz-Signature={TAIL}&X-Amz-Date=1",
}
CHANNELS = {
    "condatoken": f"https://conda.example.org/t/{TAIL}/acme",
    "condauser": f"https://me:{TAIL}@conda.example.org/acme",
}

LOG = f"""\
pip._vendor.requests: https://__token__:{TAIL}@pypi.example.org/simple/torch/
OSError: libcudnn.so.8: cannot open shared object file: No such file or directory (HF_TOKEN=hf_{TAIL}abcdefabcdef)
RuntimeError: CUDA error: no kernel image is available for execution on the device https://me:{TAIL}@h.example.org/
"""

PASTE = f"""\
numpy==1.26.4
mylib @ git+https://oauth2:{TAIL}@git.example.org/acme/mylib@1f0c2ab
other @ https://h.example.org/other-1.0-py3-none-any.whl?token={TAIL}
-e git+https://{TAIL}@git.example.org/acme/edit@1f0c2ab#egg=edit
HF_TOKEN=hf_{TAIL}abcdefabcdef
"""


def clean(*texts):
    for text in texts:
        assert TAIL not in text, text[max(0, text.find(TAIL) - 200) : text.find(TAIL) + 60]
        assert TAIL.upper() not in text


def site():
    """Return the files of a site-packages whose records hold secrets."""
    files = {}
    for name, url in ORIGINS.items():
        vcs = {"vcs": "git", "commit_id": "1f0c2ab"}
        origin = {"url": url, "vcs_info": vcs} if url.endswith(".git") else {"url": url, "archive_info": {}}
        needs = [f"helper @ {url}"]
        files |= dist_info(
            name, "1.0", {f"{name}.py": ""}, extra={"direct_url.json": json.dumps(origin)}, requires=needs
        )
    return files


def conda_records():
    return {
        f"conda-meta/{name}-1.0-0.json": json.dumps(
            {"name": name, "version": "1.0", "build": "0", "build_number": 0, "channel": url, "subdir": "linux-64",
             "url": f"{url}/linux-64/{name}-1.0-0.conda", "files": []}
        )
        for name, url in CHANNELS.items()
    }  # fmt: skip


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A venv and a conda prefix as folders."""
    top = tmp_path_factory.mktemp("machine")
    library = "lib/python3.12/site-packages"
    for kind in ("venv", "conda"):
        write(top / kind, below(library, site()))
        write(
            top / kind,
            {
                "bin/python3.12": "#!/bin/sh\n",
                "include/python3.12/patchlevel.h": '#define PY_VERSION "3.12.4"\n',
            },
        )
        (top / kind / "bin/python3").symlink_to("python3.12")
    write(top / "venv", {"pyvenv.cfg": f"home = {top}/conda/bin\nprompt = {TAIL}\n"})
    write(
        top / "conda",
        {
            **conda_records(),
            "conda-meta/history": f"# cmd: conda install -c https://conda.example.org/t/{TAIL}/acme x\n",
        },
    )
    (top / "home").mkdir()
    return top


@pytest.fixture(scope="module")
def environ(machine):
    return {**VARIABLES, "HOME": str(machine / "home")}


@pytest.fixture(scope="module", params=["venv", "conda"])
def captured(request, machine, environ, tmp_path_factory):
    path = tmp_path_factory.mktemp("captured") / "env.toml"
    done = run("capture", "--prefix", machine / request.param, "-o", path, "--deep", env=environ)
    assert done.returncode == 0, done.stderr
    clean(done.stdout, done.stderr)
    return path


def test_there_are_forty_kinds():
    assert len(VARIABLES) + len(ORIGINS) + len(CHANNELS) >= 40
    assert all(
        TAIL in text or TAIL.upper() in text
        for text in [*VARIABLES.values(), *ORIGINS.values(), *CHANNELS.values()]
    )


def test_a_manifest_holds_the_facts_and_not_the_secrets(captured):
    text = captured.read_text()
    clean(text)
    assert "userpass" in text and "HTTPS_PROXY" in text and "git.example.org" in text


@pytest.mark.parametrize("form", ["text", "json", "markdown", "html", "github", "gitlab", "sarif", "junit"])
def test_no_report_of_any_format_holds_one(captured, machine, environ, form):
    for arguments in (
        ("check", captured),
        ("check", "--prefix", machine / "venv"),
        ("verify", captured, "--prefix", machine / "conda"),
    ):
        done = run(*arguments, "--format", form, env=environ)
        assert done.returncode in (0, 1), done.stderr
        clean(done.stdout, done.stderr)


@pytest.mark.parametrize("form", ["text", "json", "markdown", "html"])
def test_nor_does_a_diff(captured, environ, tmp_path, form):
    log = tmp_path / "train.log"
    log.write_text(LOG)
    bare = tmp_path / "bare.toml"
    bare.write_text('schema = "envlock/1"\n')
    done = run("diff", captured, bare, "--log", log, "--all", "--format", form, env=environ)
    assert done.returncode == 1, done.stderr
    clean(done.stdout, done.stderr)


def test_the_probe_s_own_document_is_clean(machine, environ, tmp_path):
    script = tmp_path / "probe.pyz"
    assert run("probe", "-o", script).returncode == 0
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, script, "--prefix", machine / "conda"], env={**os.environ, **environ}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    clean(done.stdout, done.stderr)
    made = run("capture", "--from", "-", stdin=done.stdout)
    clean(made.stdout, made.stderr)


def test_an_image_s_environment_labels_and_records(tmp_path):
    prefix = "opt/conda"
    files = {**below(f"{prefix}/lib/python3.12/site-packages", site()), **below(prefix, conda_records())}
    files |= {
        f"{prefix}/bin/python3.12": "\x7fELF",
        f"{prefix}/include/python3.12/patchlevel.h": '#define PY_VERSION "3.12.4"\n',
    }
    members = [file(name, text) for name, text in files.items()] + [
        link(f"{prefix}/bin/python3", "python3.12")
    ]
    layout = Layout(tmp_path / "layout")
    variables = [f"{name}={value}" for name, value in VARIABLES.items()] + [f"CONDA_PREFIX=/{prefix}"]
    labels = {"token": TAIL, "org.opencontainers.image.source": f"https://me:{TAIL}@git.example.org/x"}
    layout.of(layer(*members), env=variables, labels=labels)
    done = run("capture", "--image", layout)
    assert done.returncode == 0, done.stderr
    assert "HTTPS_PROXY" in done.stdout and "condatoken" in done.stdout
    clean(done.stdout, done.stderr)


def test_a_pasted_report():
    done = run("import", stdin=PASTE)
    assert done.returncode == 0 and "mylib" in done.stdout, done.stderr
    clean(done.stdout, done.stderr)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_the_lines_of_a_log_that_are_shown(options, captured):
    for arguments in (("explain", "--log", "-"), ("explain", "--log", "-", captured)):
        done = run(*arguments, *options, stdin=LOG)
        assert done.returncode in (0, 1) and "libcudnn.so.8" in done.stdout, done.stderr
        clean(done.stdout, done.stderr)


@pytest.mark.parametrize(
    "kind",
    ["requirements", "pylock", "conda-lock", "conda-explicit", "environment-yml", "cyclonedx", "dockerfile"],
)
def test_an_export(captured, machine, environ, kind, tmp_path):
    wheel(tmp_path, "helper", "1.0")
    for more in ((), ("--find-links", tmp_path)):
        done = run("export", kind, captured, *more, env=environ)
        clean(done.stdout, done.stderr)
    clean(*(each for each in (run("export", kind, "--prefix", machine / "conda", env=environ).stdout,)))


def test_an_index_that_does_not_answer_is_named_without_its_password(captured):
    done = run("export", "requirements", captured, "--index-url", f"http://me:{TAIL}@127.0.0.1:1/simple")
    clean(done.stdout, done.stderr)


def test_another_tool_s_lock(machine, environ, tmp_path):
    lock = tmp_path / "requirements.txt"
    lock.write_text(
        f"--index-url https://__token__:{TAIL}@pypi.example.org/simple\nuserpass @ git+https://x:{TAIL}@git.example.org/o.git@aaaa\n"
        f"query @ https://h.example.org/query-2.0-py3-none-any.whl?token={TAIL}\n"
    )
    for form in ("text", "json", "github"):
        done = run("verify", lock, "--prefix", machine / "venv", "--format", form, env=environ)
        assert done.returncode in (0, 1), done.stderr
        clean(done.stdout, done.stderr)


def test_a_broken_file_is_quoted_without_its_secret(tmp_path):
    bad = tmp_path / "env.toml"
    bad.write_text(f'schema = "envlock/1"\n[environ]\nHF_TOKEN = hf_{TAIL}abcdefabcdef\n')
    done = run("check", bad)
    assert done.returncode == 2
    clean(done.stdout, done.stderr)


def test_nothing_is_left_in_the_cache(machine, environ):
    for path in Path(machine / "home").rglob("*"):
        if path.is_file():
            clean(path.read_bytes().decode("latin-1"))
