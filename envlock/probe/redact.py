"""What must never reach a manifest: tokens, passwords, the user's home folder; and how it is masked.

Pure functions from text to text, safe on hostile input (every pattern is bounded) and idempotent:
masking what is masked already changes nothing. Masking errs on the side of masking.
"""

import re

MASK = "***"
# Patterns are text: each is compiled (and then held by re) when a value first needs it, most never are.

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:[A-Z]*TOKEN|PASS|[A-Z]*PASSWORD|PASSWD|PASSPHRASE|[A-Z]*SECRETS?|KEY|KEYS|[A-Z]*APIKEY"
    r"|ACCESSKEY|SECRETKEY|PRIVATEKEY|CREDENTIALS?|CREDS?|AUTH|AUTHORIZATION|COOKIE|SIGNATURE|DSN|WEBHOOK)(?:_|$)"
    r"|[^_]_PWD$"
)
"""Words in upper case, set off by underscores: HF_TOKEN, but not TOKENIZERS_PARALLELISM."""

# PEP 610 lets the user name "git" and references to environment variables stand: neither is a secret.
_HARMLESS_USER = r"(?:git|\$\{[\w-]+\}(?::\$\{[\w-]+\})?|\*\*\*)\Z"
_USERINFO = r"(?<=://)[^\s/?#]*(?=@)"
# A password with a raw "/" in it is no valid URL, but proxies are set like that; a port is not a password.
_USERINFO_SLASHED = r"(?<=://)[^\s/?#:@]{1,256}:(?!\d*(?:[/?#\s,;]|\Z))[^\s@]{0,1024}(?=@)"
# A proxy has no path that matters and often no scheme: all up to the last "@" is its user.
_PROXY_USERINFO = r"(?:\A|(?<=://))(?![\w+.-]{1,20}://)\S{1,4096}(?=@)"
_CONDA = (
    r"(://[^\s]{0,512}?/t/|(?<![\w./-])[\w-]+(?:\.[\w-]+){1,8}(?::\d+)?/t/)[^\s/]+"
    r"|(?<![\w./-])(t/)[A-Za-z]{2}-[0-9A-Za-z-]{8,}"
)
_SENSITIVE = (
    r"(?:secret|token|password|passwd|passphrase|pwd|api[_-]?key|access[_-]?key(?:[_-]?id)?|secret[_-]?key"
    r"|account[_-]?key|private[_-]?key|signature|credentials?|authorization)"
)
_QUERY = (
    r"(?i)([?&;#](?:[\w.-]{0,64}" + _SENSITIVE + r"|[\w.-]{0,64}[_-]?key|sig|auth|code|session)=)[^&#;\s]+"
)
_ASSIGNMENT = r"(?i)((?<![A-Za-z])" + _SENSITIVE + r"[\"']?\s{0,8}[=:]\s{0,8}[\"']?)[^\s\"'&;,]+"
_SCHEME = r"(?i)\b(bearer|basic)(\s{1,8})[\w+/=.~-]{16,}"
_KNOWN = (
    r"(?<![A-Za-z0-9])(?:"
    r"(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}"  # AWS access key ids
    r"|gh[opusr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}"  # GitHub
    r"|(?:hf|api_org)_[A-Za-z0-9]{16,}"  # Hugging Face
    r"|sk-[\w-]{16,}|nvapi-[\w-]{16,}|AIza[\w-]{30,}|ya29\.[\w-]{16,}"  # OpenAI and others, NVIDIA, Google
    r"|gl(?:pat|dt|rt|cbt|ptt)-[\w-]{16,}|npm_[A-Za-z0-9]{16,}|pypi-[\w-]{16,}"  # GitLab, npm, PyPI
    r"|xox[a-z]-[\w-]{10,}|dckr_pat_[\w-]{16,}|dop_v1_[0-9a-f]{16,}"  # Slack, Docker, DigitalOcean
    r"|eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"  # JSON web tokens
    r")"
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)", re.S
)


def mask_url(text: str) -> str:
    """Mask what is secret in the URLs of a text: user and password, token queries, conda's /t/<token>/.

    The text may hold several URLs or none (a conda channel, a requirement, a command line). Tokens of
    a known shape (ghp_..., hf_..., AKIA...) are masked wherever they stand.
    """
    if "@" in text:
        text = re.sub(_USERINFO, _mask_user, text)
        text = re.sub(_USERINFO_SLASHED, _mask_user, text)
    if "t/" in text:
        text = re.sub(_CONDA, lambda found: (found.group(1) or found.group(2)) + MASK, text)
    if "=" in text:
        text = re.sub(_QUERY, r"\1" + MASK, text)
    if len(text) >= 15:  # the shortest of them
        text = re.sub(_KNOWN, MASK, text)
    if "PRIVATE KEY" in text:
        text = _PRIVATE_KEY.sub(MASK, text)
    return text


def mask_value(name: str, text: str) -> str:
    """Mask a variable's value: all of it where the name says secret, else the secrets inside.

    An empty value stays empty: that a token is set to nothing is a fact and no secret.
    """
    if not text:
        return text
    if is_secret_name(name):
        return MASK
    if name.lower().endswith("_proxy"):
        text = re.sub(_PROXY_USERINFO, MASK, text)
    return mask_text(text)


def mask_text(text: str) -> str:
    """Mask what is secret in any text, such as a line of a log: in URLs, after "token=", behind "Bearer"."""
    text = mask_url(text)
    if len(text) > 20:
        text = re.sub(_SCHEME, r"\1\2" + MASK, text)
    return re.sub(_ASSIGNMENT, r"\1" + MASK, text) if "=" in text or ":" in text else text


def is_secret_name(name: str) -> bool:
    """Tell whether a variable of this name is meant to hold a secret (AWS_SECRET_ACCESS_KEY, DB_PWD)."""
    return _SECRET_NAME.search(name.upper().replace("-", "_").replace(".", "_")) is not None


def strip_home(text: str, home: str) -> str:
    """Put "~" where the home folder stands in a path or in a list of paths: it names the user.

    Only whole path components count: with the home "/home/me", "/home/media" and "/mnt/home/me" stay.
    """
    home = home.rstrip("/")
    if not home.startswith("/") or home not in text:
        return text
    # After a flag (-L/home/me/lib) and a scheme (file:///home/me) a path starts as well.
    start = r"(?:(?<![\w./~-])|(?<=://)|(?<=[\s\"'=]-[A-Z])|(?<=\A-[A-Z]))"
    return re.sub(start + re.escape(home) + r"(?![\w.@+-])", "~", text)


def _mask_user(found: "re.Match[str]") -> str:
    user = found.group()
    return user if not user or re.match(_HARMLESS_USER, user) else MASK
