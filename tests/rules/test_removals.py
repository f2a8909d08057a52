"""Notes to thin reports: releases that took something away, new major series, and what Python lost."""

import pytest

from tests.rules.support import found, only

RULE = "known-breakage"


def report(*packages, python=""):
    text = f'[python]\nversion = "{python}"\n' if python else ""
    lines = [each.split() for each in packages]
    return (
        text
        + "[package.pip]\n"
        + "".join(
            f'{line[0]} = {{ version = "{line[1]}" }}\n' if line[1:] else f"{line[0]} = {{}}\n"
            for line in lines
        )
    )


def test_a_later_release_is_told_only_where_a_version_was_left_open():
    finding = only(RULE, report("acme", "numpy 2.1.3"), "import")
    assert (finding.subject, finding.severity, finding.breaks) == ("package.pip.numpy", "note", False)
    assert "newer than the release that removed np.NaN" in finding.message
    assert found(RULE, report("acme 1.4", "numpy 2.1.3"), "import") == []
    assert found(RULE, report("acme", "numpy 2.1.3")) == [], "a capture leaves no version open"


def test_the_newest_removal_that_a_release_has_is_told():
    (finding,) = found(RULE, report("acme", "scikit-learn 1.5.1"), "import")
    assert "parse_version" in finding.message
    (finding,) = found(RULE, report("acme", "scikit-learn 1.4.2"), "import")
    assert "load_boston" in finding.message


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ("anvil 2.0.0", True),
        ("anvil 2", True),
        ("anvil 2.0.3", True),
        ("anvil 0.9.0", True),
        ("anvil 0.9.4", False),
        ("anvil 2.1.0", True),
        ("anvil 2.1.3", False),
        ("anvil 2024.0", False),
        ("anvil 3!2.0", False),
        ("pip 24.0", False),
        ("torch 2.0.0", False),
    ],
)
def test_a_new_series_is_told_beside_what_was_left_open(stated, told):
    findings = found(RULE, report("acme", stated), "import")
    assert [each.severity for each in findings] == (["note"] if told else [])
    assert all("begins the series" in each.message for each in findings)


def test_of_few_stated_packages_a_new_series_is_told_the_gravest_first():
    findings = found(RULE, report("acme 0.12.0", "anvil 2.0.0", "forge 1.0.1"), "import")
    assert [each.subject.rpartition(".")[2] for each in findings] == ["anvil", "acme", "forge"]
    assert [each.message.split(", ")[0].rpartition(" ")[2] for each in findings] == ["2", "0.12", "1"]
    assert found(RULE, report("acme 1.1", "anvil 1.4.0"), "import") == [], (
        "minor releases are rarely to blame"
    )
    assert found(RULE, report("acme 1.1", "forge 1.2", "anvil 2.0.0", "tongs 1.4"), "import") == []
    assert found(RULE, report("anvil 2.0.0"), "import") == []


def test_a_minor_release_is_told_of_beside_one_that_was_left_open_and_few_others():
    assert "begins the series 1.9" in only(RULE, report("acme", "anvil 1.9.0"), "import").message
    assert found(RULE, report("acme", "anvil 1.9.0", "forge 1.2.1", "tongs 1.4.2"), "import") == []
    findings = found(RULE, report("acme", "anvil 1.9.0", "forge 2.0.0"), "import")
    assert [each.subject for each in findings] == ["package.pip.forge"]


def test_nothing_is_told_where_nothing_stands_out():
    many = [f"anvil-{n} 2.0.0" for n in range(4)]
    assert found(RULE, report("acme", *many), "import") == []
    assert len(found(RULE, report("acme", *many[:3]), "import")) == 3
    whole = [f"anvil-{n} 1.2.{n}" for n in range(20)]
    assert found(RULE, report("acme", "anvil 2.0.0", *whole), "import") == []


def test_a_known_breakage_makes_further_suspects_needless():
    findings = found(RULE, report("openai 1.30.0", "httpx 0.28.1", "acme"), "import")
    assert [each.severity for each in findings] == ["error"]


def test_python_is_pointed_to_where_nothing_else_stands_out():
    finding = only(RULE, report("acme", python="3.12.1"), "import")
    assert (finding.subject, finding.severity, finding.breaks) == ("python.version", "note", False)
    assert "imp, distutils" in finding.message
    assert "acme" in finding.message
    assert "telnetlib" in only(RULE, report("acme", python="3.13"), "import").message
    assert found(RULE, report("acme", python="3.8"), "import") == []
    assert found(RULE, report("acme 1.4", python="3.12"), "import") == []
    assert found(RULE, report("acme", python="3.12")) == []
    findings = found(RULE, report("acme", "anvil 2.0.0", python="3.12"), "import")
    assert [each.subject for each in findings] == ["package.pip.anvil"]
