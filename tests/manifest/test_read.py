"""A manifest that cannot be read gives one sentence with file, line and address."""

import pytest

from envlock.manifest.read import SIZE_LIMIT, ManifestError, line_of, load, loads

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
    with pytest.raises(ManifestError, match=r"nested too deeply|not TOML"):
        loads(HEAD + "a = " + "[" * 100_000, "env.toml")


def test_terminal_escapes_do_not_come_through_an_error():
    with pytest.raises(ManifestError) as raised:
        loads('schema = "\\u001b[31mred"\n', "env.toml")
    assert "\x1b" not in str(raised.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ManifestError, match=r"cannot read .*none\.toml: No such file or directory"):
        load(str(tmp_path / "none.toml"))


def test_a_file_that_is_too_large(tmp_path):
    path = tmp_path / "large.toml"
    with path.open("wb") as file:
        file.truncate(SIZE_LIMIT + 1)
    with pytest.raises(ManifestError, match="larger than 32 MiB"):
        load(str(path))


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


@pytest.mark.parametrize("text", ["{}x = 1\n", "[{}x]\n", "[[ {}x ]]\n", "a = {{ b = 1, {}x = 1 }}\n"])
def test_a_key_of_thousands_of_parts_is_refused_at_once(text):
    for part in ("a.", '"a" . ', "'a'."):
        with pytest.raises(
            ManifestError, match=r"^env\.toml:3: not a manifest: a key of more than 100 parts$"
        ):
            loads(HEAD + "a = 1\n" + text.format(part * 100_000), "env.toml")


def test_many_dots_in_a_value_are_no_deep_key():
    text = HEAD + f"[environ]\nLD_LIBRARY_PATH = \"/{'a.' * 500}b\"\nPATH = '{'a.' * 500}b'\n"
    assert len(loads(text).environ) == 2


def test_an_error_does_not_repeat_megabytes():
    for text in (f'schema = "{"x" * 100_000}"\n', HEAD + f"[lock]\n{'x' * 100_000} = 1\n"):
        with pytest.raises(ManifestError) as raised:
            loads(text, "env.toml")
        assert len(str(raised.value)) < 500
