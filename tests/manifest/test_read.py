"""A manifest that cannot be read gives one sentence with file, line and address."""

import io
import sys

import pytest

from envlock.manifest.read import SIZE_LIMIT, ManifestError, line_of, load, loads, printable

HEAD = 'schema = "envlock/1"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            HEAD + "[package.pip]\nfoo = {}\nnumpy = 3\n",
            "env.toml:4: package.pip.numpy: expected a table, got an integer",
        ),
        (HEAD + "[driver]\nversion = 570\n", "env.toml:3: driver.version: expected text, got an integer"),
        (
            HEAD + '[[gpu]]\nname = "a"\n[[gpu]]\nname = 3\n',
            "env.toml:3: gpu.name: expected text, got an integer",
        ),
        (HEAD + '[host]\niommu = "yes"\n', "env.toml:3: host.iommu: expected true or false, got text"),
        (HEAD + '[[library]]\nversion = "9"\n', "env.toml:2: library: name is missing"),
        (HEAD + '[lock]\nignor = ["a"]\n', "env.toml:2: lock: no key ignor is known here"),
        (HEAD + '[capture]\nsource = "guess"\n', "env.toml:3: capture.source: invalid enum value 'guess'"),
        (
            'schema = "envlock/2"\n',
            "env.toml:1: schema 'envlock/2' is not known to this envlock, which reads 'envlock/1'",
        ),
        ("a = 1\n", 'env.toml: not an envlock manifest: no key "schema" (expected schema = "envlock/1")'),
        (HEAD + "x = \n", "env.toml:2: not TOML: Invalid value"),
        (HEAD + "x = [1", "env.toml:2: not TOML: Unclosed array"),
        (
            HEAD + '[host]\nmemory_gib = "a"\n',
            "env.toml:3: host.memory_gib: expected an integer or a number, got text",
        ),
        (
            HEAD + "[requires]\na = []\n[requires.b]\n",
            "env.toml:4: requires.b: expected a list, got a table",
        ),
        (HEAD + "[requires]\na = []\nb = [1]\n", "env.toml:4: requires.b: expected text, got an integer"),
        (HEAD + '[[gpu]]\n[[lock.waiver]]\nrule = "a"\n', "env.toml:3: lock.waiver: reason is missing"),
        (
            HEAD + "[capture]\ntime = 10:00:00\n",
            "env.toml:3: capture.time: expected a date and time, got a time of day",
        ),
        (
            HEAD + "[host]\nmemory_gib = " + "9" * 5000,
            "env.toml: not a manifest: a number or date out of any range",
        ),
        (HEAD + '[lock]\n"a - at `$.b`" = 1\n', "env.toml:2: lock: no key a - at `$.b` is known here"),
        (HEAD + "a = 1\na = 2\n", "env.toml:3: not TOML: Cannot overwrite a value"),
    ],
)
def test_the_sentence(text, message):
    with pytest.raises(ManifestError) as raised:
        loads(text, "env.toml")
    assert str(raised.value) == message


def test_deep_nesting_is_an_error_and_no_crash():
    said = r"\Aenv\.toml(: not a manifest: tables or lists nested too deeply|:2: not TOML: [^\n]*)\Z"
    with pytest.raises(ManifestError, match=said):
        loads(HEAD + "a = " + "[" * 100_000, "env.toml")


def test_terminal_escapes_do_not_come_through_an_error():
    with pytest.raises(ManifestError) as raised:
        loads('schema = "\\u001b[31mred"\n', "env.toml")
    assert "\x1b" not in str(raised.value)
    assert (
        printable("a\x1bb\x9b\u202ec\u2028d\u200ee\u2066\n")
        == "a\ufffdb\ufffd\ufffdc\ufffdd\ufffde\ufffd\ufffd"
    )
    assert printable("gr\u00fc\u00df ~\u00a0") == "gr\u00fc\u00df ~\u00a0"


def test_a_file_that_is_not_there(tmp_path):
    path = str(tmp_path / "none.toml")
    with pytest.raises(ManifestError) as raised:
        load(path)
    assert str(raised.value) == f"cannot read {path}: No such file or directory"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'schema = "envlock/1"\nx = \n', "standard input:2: not TOML: Invalid value"),
        (b"a\nb\n\xff", "standard input:3: not UTF-8 text (byte 4)"),
        (b"#" * (SIZE_LIMIT + 1), "standard input: larger than 32 MiB, which no manifest is"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_standard_input_is_called_so(content, said, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    with pytest.raises(ManifestError) as raised:
        load("-")
    assert str(raised.value) == said


def test_a_manifest_on_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(HEAD.encode())))
    assert load("-") == loads(HEAD)


def test_a_file_that_is_too_large(tmp_path):
    path = tmp_path / "large.toml"
    with path.open("wb") as file:
        file.truncate(SIZE_LIMIT + 1)
    with pytest.raises(ManifestError) as raised:
        load(str(path))
    assert str(raised.value) == f"{path}: larger than 32 MiB, which no manifest is"
    path.write_text(HEAD + "#" * (SIZE_LIMIT - len(HEAD)))
    assert load(str(path)) == loads(HEAD)


def test_bytes_that_are_not_utf8_name_their_line(tmp_path):
    path = tmp_path / "latin.toml"
    path.write_bytes(HEAD.encode() + b'[capture]\nname = "caf\xe9"\n')
    with pytest.raises(ManifestError, match=r"latin\.toml:3: not UTF-8 text"):
        load(str(path))


def test_windows_line_ends_and_a_byte_order_mark_are_read(tmp_path):
    path = tmp_path / "windows.toml"
    path.write_bytes(b'\xef\xbb\xbfschema = "envlock/1"\r\n[driver]\r\nversion = "570.86.15"\r\n')
    assert load(str(path)).driver.version == "570.86.15"


def test_facts_of_a_newer_envlock_are_passed_over():
    assert loads(HEAD + '[driver]\nversion = "1"\nfirmware = "x"\n[npu]\na = 1\n').driver.version == "1"


def test_lines_of_addresses():
    text = HEAD + '[package.pip]\nnumpy = { version = "1" }\n\n[[library]]\nname = "nccl"\n'
    assert line_of(text, "package.pip.numpy") == 3
    assert line_of(text, "package.pip.scipy") == 2
    assert line_of(text, "library.nccl") == 6
    assert line_of(text, "driver.version") is None
    spaced = "[ package . \"pip\" ]\n'numpy' = {}\nb.\"c\" = 1\n[[library]]\nname = 'nccl' # 2\n[[library]]\nname='cudnn'\n"
    lines = {"package.pip": 1, "package.pip.numpy": 2, "package.pip.b.c": 3, "library": 4, "library.name": 5}
    assert {address: line_of(spaced, address) for address in lines} == lines
    assert line_of(spaced, "library.cudnn") == 7
    assert line_of('[[gpu]]\nname = "cudnn"\n', "library.cudnn") is None


@pytest.mark.parametrize("text", ["{}x = 1\n", "[{}x]\n", "[[ {}x ]]\n", "a = {{ b = 1, {}x = 1 }}\n"])
def test_a_key_of_thousands_of_parts_is_refused_at_once(text):
    for part in ("a.", '"a" . ', "'a'."):
        with pytest.raises(
            ManifestError, match=r"^env\.toml:3: not a manifest: a key of more than 100 parts$"
        ):
            loads(HEAD + "a = 1\n" + text.format(part * 100_000), "env.toml")


def test_a_key_of_a_hundred_parts_is_the_longest():
    assert loads(HEAD + ".".join("a" * 100) + " = 1\n") == loads(HEAD)
    with pytest.raises(ManifestError, match=r"^env\.toml:2: not a manifest: a key of more than 100 parts$"):
        loads(HEAD + ".".join("a" * 101) + " = 1\n", "env.toml")


def test_many_dots_in_a_value_are_no_deep_key():
    text = HEAD + f"[environ]\nLD_LIBRARY_PATH = \"/{'a.' * 500}b\"\nPATH = '{'a.' * 500}b'\n"
    assert len(loads(text).environ) == 2


def test_an_error_does_not_repeat_megabytes():
    for text in (f'schema = "{"x" * 100_000}"\n', HEAD + f"[lock]\n{'x' * 100_000} = 1\n"):
        with pytest.raises(ManifestError) as raised:
            loads(text, "env.toml")
        assert len(str(raised.value)) < 500
    with pytest.raises(ManifestError) as raised:
        loads(f'schema = "{"x" * 197}y"\n', "env.toml")
    assert "xy' is not known" in str(raised.value)
    with pytest.raises(ManifestError) as raised:
        loads(f'schema = "{"x" * 198}y"\n', "env.toml")
    assert f"schema '{'x' * 198}… is not known" in str(raised.value)
