"""What must not reach a manifest does not, in linear time."""

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from envlock.probe.redact import MASK, is_secret_name, mask_url, mask_value, strip_home

# Made-up secrets in the shapes that their issuers document.
SECRETS = [
    "AKIAABCDEFGHIJKLMNOP",
    "ghp_" + "a1B2" * 9,
    "github_pat_" + "a1B2_" * 8,
    "hf_" + "Zz9" * 11,
    "sk-proj-" + "x_Y-9" * 8,
    "glpat-" + "x_Y-9" * 4,
    "npm_" + "a1B2" * 9,
    "pypi-" + "AgEIcHlwaS5vcmc" * 3,
    "xoxb-123456789012-abcdefABCDEF",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    "nvapi-" + "x_Y-9" * 8,
]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("https://user:pass@host/simple", "https://***@host/simple"),
        ("git+https://oauth2:tok@gitlab.com/a/b.git@1f0c2ab", "git+https://***@gitlab.com/a/b.git@1f0c2ab"),
        ("git+https://tok@github.com/a/b", "git+https://***@github.com/a/b"),
        ("http://u:p@a:1,http://u2:p2@b:2", "http://***@a:1,http://***@b:2"),
        ("http://me:p/w@proxy:3128", "http://***@proxy:3128"),
        ("https://conda.anaconda.org/t/tk-123-abc/acme", "https://conda.anaconda.org/t/***/acme"),
        ("https://h/api/conda/t/tok/acme/linux-64", "https://h/api/conda/t/***/acme/linux-64"),
        ("conda.anaconda.org/t/tk-123/acme", "conda.anaconda.org/t/***/acme"),
        ("t/tk-12345678-abc/acme", "t/***/acme"),
        ("https://h/x.whl?token=abc&v=1", "https://h/x.whl?token=***&v=1"),
        ("https://h/x?X-Amz-Signature=0a&X-Amz-Date=1", "https://h/x?X-Amz-Signature=***&X-Amz-Date=1"),
        ("https://h/x?sv=2020&sig=ab%3D", "https://h/x?sv=2020&sig=***"),
    ],
)
def test_url_secrets_are_masked(text: str, masked: str) -> None:
    assert mask_url(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "git+ssh://git@github.com/acme/mylib@1f0c2ab",
        "git+https://github.com/acme/mylib@v1.2#egg=mylib&subdirectory=py",
        "https://${USER}:${TOKEN}@host/simple",
        "https://host:8443/repo@rev",
        "https://files.pythonhosted.org/packages/a/b/x-1.0.whl#sha256=0a1b",
        "/opt/t/lib/python3.11",
        "/usr/local/cuda/lib64:/opt/task-force-long-name-of-a-folder/lib",
        "expandable_segments:True,max_split_size_mb:128",
        "",
    ],
)
def test_harmless_text_stays(text: str) -> None:
    assert mask_url(text) == text
    assert mask_value("NCCL_X", text) == text


@pytest.mark.parametrize(
    "name",
    ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "WANDB_API_KEY", "MYSQL_PWD", "HF_AUTHTOKEN",
     "PIP_PASSWORD", "CUDA_DB_PASS", "npm_config_authToken", "GOOGLE_APPLICATION_CREDENTIALS"],
)  # fmt: skip
def test_a_secret_name_hides_the_whole_value(name: str) -> None:
    assert mask_value(name, "hunter2") == MASK
    assert mask_value(name, "") == ""


@pytest.mark.parametrize(
    "name",
    [
        "TOKENIZERS_PARALLELISM",
        "PWD",
        "PYTHONPATH",
        "NCCL_IB_PKEY",
        "OMP_NUM_THREADS",
        "MAX_TOKENS",
        "COMPASS",
    ],
)
def test_a_harmless_name_is_not_secret(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("name", "text", "masked"),
    [
        ("http_proxy", "me:pw@proxy:3128", "***@proxy:3128"),
        ("HTTPS_PROXY", "http://me:pw@proxy:3128", "http://***@proxy:3128"),
        ("http_proxy", "http://me:p@ss/w@rd@proxy:3128", "http://***@proxy:3128"),
        ("http_proxy", "proxy:3128", "proxy:3128"),
        ("no_proxy", "localhost,10.0.0.0/8", "localhost,10.0.0.0/8"),
        ("HF_HEADERS", "Authorization: Bearer abcdefghijklmnop1234", "Authorization: *** ***"),
        ("PYTHON_X", "host=db password=hunter2 port=1", "host=db password=*** port=1"),
    ],
)
def test_secrets_inside_a_value(name: str, text: str, masked: str) -> None:
    assert mask_value(name, text) == masked


_around = st.text(alphabet=" :/,;=\n\"'()[]{}|", max_size=8)


@settings(deadline=None)  # a shared runner may stall
@given(secret=st.sampled_from(SECRETS), before=_around, after=_around)
def test_a_known_token_never_survives(secret: str, before: str, after: str) -> None:
    assert secret not in mask_url(before + secret + after)
    assert secret not in mask_value("NCCL_X", before + secret + after)


_secret = st.text(alphabet="abcXYZ0189._~!$%&*+,;=-", min_size=6, max_size=30).filter(
    lambda s: s.strip("*") == s
)


@settings(deadline=None)  # a shared runner may stall
@given(
    user=st.text(alphabet="abcxyz0189._-", max_size=10),
    password=_secret,
    host=st.sampled_from(["h", "h.io:80", "10.0.0.1"]),
)
def test_a_url_password_never_survives(user: str, password: str, host: str) -> None:
    url = f"see https://{user}:{password}@{host}/simple now"
    assert mask_url(url) == f"see https://***@{host}/simple now"


@settings(deadline=None)  # a shared runner may stall
@given(st.text(max_size=200) | st.text(alphabet="://@?&=t#ab1-_.* ", max_size=60))
@example("://@:@")
@example("token==token=a")
def test_masking_twice_is_masking_once(text: str) -> None:
    assert mask_url(mask_url(text)) == mask_url(text)
    assert mask_value("NCCL_X", mask_value("NCCL_X", text)) == mask_value("NCCL_X", text)


@pytest.mark.parametrize(
    "piece", ["://", "://x:y", "eyJ", "sk-", "?token", "a.b.", "t/", "password ", "/t", "-----BEGIN "]
)
def test_hostile_repetition_costs_little(piece: str) -> None:
    started = time.perf_counter()
    mask_value("NCCL_X", piece * (64_000 // len(piece)))
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    ("text", "stripped"),
    [
        ("/home/me/lib:/usr/lib:/home/me", "~/lib:/usr/lib:~"),
        ("/home/media/lib:/mnt/home/me/lib", "/home/media/lib:/mnt/home/me/lib"),
        ("-L/home/me/lib -O2", "-L~/lib -O2"),
        ("file:///home/me/src", "file://~/src"),
        ("~/home/me", "~/home/me"),
    ],
)
def test_home_becomes_a_tilde(text: str, stripped: str) -> None:
    assert strip_home(text, "/home/me") == stripped
    assert strip_home(text, "/home/me/") == stripped


@pytest.mark.parametrize("home", ["", "/", "relative"])
def test_no_home_changes_nothing(home: str) -> None:
    assert strip_home("/usr/lib:/relative", home) == "/usr/lib:/relative"
