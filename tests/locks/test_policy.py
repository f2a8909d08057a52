"""What the policy lets move and what it does not."""

import datetime

import pytest

from envlock.locks.policy import PolicyError, allowance, expired, verify
from envlock.manifest.read import loads
from envlock.matrix.loader import load

MATRIX = load()
DAY = datetime.date(2026, 11, 23)

BASE = """
schema = "envlock/1"
[capture]
source = "{source}"
{unobserved}
[host]
kernel = "{kernel}"
arch = "x86_64"
[driver]
version = "{driver}"
[[gpu]]
name = "NVIDIA A100-SXM4-80GB"
compute_capability = "8.0"
[python]
version = "{python}"
prefix = "{prefix}"
[[library]]
name = "cudnn"
version = "{cudnn}"
path = "{prefix}/lib/libcudnn.so.9"
[package.pip]
numpy = {{ version = "{numpy}", digest = "sha256:{digest}" }}
{more}
[environ]
{environ}
[lock]
{lock}
"""
SAME = {
    "source": "live",
    "unobserved": "", "kernel": "6.8.0", "driver": "570.133.20", "python": "3.12.3", "prefix": "/opt/venv", "cudnn": "9.10.2",
    "numpy": "2.3.5", "digest": "aa", "more": "", "environ": "", "lock": "",
}  # fmt: skip


def manifest(**changed):
    return loads(BASE.format(**{**SAME, **changed}))


def drift(lock="", today=DAY, **changed):
    result = verify(manifest(lock=lock), manifest(**changed), MATRIX, today=today)
    return [change.address for change in result.drift]


def test_the_same_stack_does_not_drift():
    assert drift() == []


@pytest.mark.parametrize(
    ("changed", "address"),
    [
        ({"numpy": "2.3.6"}, "package.pip.numpy"),
        ({"digest": "bb"}, "package.pip.numpy"),
        ({"python": "3.12.4"}, "python.version"),
        ({"cudnn": "9.10.3"}, "library.cudnn"),
        ({"more": 'six = { version = "1.17.0" }'}, "package.pip.six"),
        ({"environ": 'LD_LIBRARY_PATH = "/decoy"'}, "environ.LD_LIBRARY_PATH"),
    ],
)
def test_an_image_fact_that_moves_is_drift(changed, address):
    assert drift(**changed) == [address]


@pytest.mark.parametrize(
    "changed",
    [
        {"kernel": "6.11.0"},
        {"driver": "580.95.05"},
        {"prefix": "/home/ci/venv"},
        {"environ": 'LANG = "C"'},
        {"unobserved": '[capture.unobserved]\ndriver = "none here"\ngpu = "none here"'},
    ],
)
def test_what_belongs_to_the_machine_the_shell_or_the_place_is_not_drift(changed):
    assert drift(**changed) == []


BESIDE = '[conda."/opt/conda"]\nzlib = {{ version = "1.3.1", build = "{}" }}'


def test_what_the_lock_holds_of_a_conda_prefix_beside_must_match_and_a_prefix_more_is_no_drift():
    one, other, more = BESIDE.format("h1_0"), BESIDE.format("h2_0"), '[conda."/p"]\nx = { version = "1" }'

    def moved(locked, now, lock="", source="image"):
        result = verify(
            manifest(more=locked, lock=lock), manifest(more=now, source=source), MATRIX, today=DAY
        )
        return [change.address for change in result.drift]

    assert moved(one, one) == moved("", one) == moved(one, f"{one}\n{more}") == []
    assert moved(one, other) == ["conda./opt/conda.zlib"]
    assert moved(one, f'{one}\nxz = {{ version = "5" }}') == ["conda./opt/conda.xz"]
    assert moved(one, "") == ["conda./opt/conda"]
    assert moved(one, "", lock='ignore = ["conda"]') == []
    # Another machine need not have the prefix that lay beside the environment where the lock was taken.
    assert moved(one, "", source="live") == []
    assert moved(one, other, source="live") == ["conda./opt/conda.zlib"]


@pytest.mark.parametrize(
    ("allow", "numpy", "drifts"),
    [
        ("patch", "2.3.6", False),
        ("patch", "2.4.0", True),
        ("minor", "2.4.0", False),
        ("minor", "3.0.0", True),
        ("any", "3.0.0", False),
        ("exact", "2.3.6", True),
        (">=2.3,<3", "2.9.1", False),
        (">=2.3,<3", "3.0.0", True),
    ],
)
def test_how_far_a_package_may_move(allow, numpy, drifts):
    lock = f'[lock.allow]\n"package.pip.*" = "{allow}"'
    assert drift(lock, numpy=numpy) == (["package.pip.numpy"] if drifts else [])


def test_other_content_under_the_same_version_is_not_a_patch():
    assert drift('[lock.allow]\n"package.pip.*" = "patch"', digest="bb") == ["package.pip.numpy"]


def test_the_most_specific_pattern_decides():
    lock = '[lock.allow]\n"package.pip.*" = "any"\n"package.pip.numpy" = "exact"'
    assert drift(lock, numpy="2.3.6") == ["package.pip.numpy"]


def test_a_specifier_holds_the_driver():
    lock = '[lock.allow]\ndriver = ">=575"'
    assert drift(lock, driver="570.133.20") == []  # nothing moved
    assert drift(lock, driver="560.35.05") == ["driver.version"]
    assert drift(lock, driver="580.95.05") == []


def test_ignore():
    assert drift('ignore = ["package.pip.numpy"]', numpy="1.0") == []
    assert drift('ignore = ["package.pip.scipy"]', numpy="1.0") == ["package.pip.numpy"]


def test_a_level_that_is_none_is_refused():
    with pytest.raises(PolicyError) as refused:
        drift('[lock.allow]\n"package.pip.*" = "mostly"')
    assert str(refused.value) == (
        "lock.allow.package.pip.*: 'mostly' is neither exact, patch, minor, any nor a specifier such as '>=1.2,<2'"
    )
    with pytest.raises(PolicyError, match="' ' is neither"):
        drift('[lock.allow]\n"package.pip.*" = " "')


def test_other_gpus_are_no_drift_by_themselves():
    other = loads(BASE.format(**SAME).replace("NVIDIA A100-SXM4-80GB", "NVIDIA A100-PCIE-40GB"))
    assert verify(manifest(), other, MATRIX, today=DAY).drift == ()
    (moved,) = verify(manifest(lock='[lock.allow]\ngpu = "exact"'), other, MATRIX, today=DAY).drift
    assert moved.address == "gpu"


def test_how_an_image_is_run_is_no_drift():
    contained = loads(BASE.format(**SAME) + '[container]\nruntime = "docker"\nimage = "a:1"\n')
    assert verify(manifest(), contained, MATRIX, today=DAY).drift == ()


def test_a_specifier_for_a_whole_table_holds_its_version_alone():
    lock = '[lock.allow]\ndriver = ">=575"'
    flavors = [
        loads(
            BASE.format(**{**SAME, "driver": "580.95.05", "lock": lock}).replace("[[gpu]]", f"{each}[[gpu]]")
        )
        for each in ('flavor = "open"\n', 'flavor = "proprietary"\n')
    ]
    assert verify(*flavors, MATRIX, today=DAY).drift == ()


def test_a_library_may_move_as_far_as_its_level_says():
    assert drift('[lock.allow]\n"library.cudnn" = "patch"', cudnn="9.10.3") == []
    assert drift('[lock.allow]\n"library.cudnn" = "patch"', cudnn="9.11.0") == ["library.cudnn"]


def test_of_two_copies_none_is_said_to_have_moved_a_patch():
    def twice(version):
        copy = f'[[library]]\nname = "cudnn"\nversion = "{version}"\npath = "/b"\n[package.pip]'
        lock = '[lock.allow]\n"library.cudnn" = "patch"'
        return loads(BASE.format(**{**SAME, "cudnn": version, "lock": lock}).replace("[package.pip]", copy))

    moved = verify(twice("9.10.2"), twice("9.10.3"), MATRIX, today=DAY).drift
    assert [each.address for each in moved] == ["library.cudnn"]


def test_a_library_that_was_not_there_is_drift():
    more = '[[library]]\nname = "nccl"\nversion = "2.27.5"\n[package.pip]'
    now = loads(BASE.format(**SAME).replace("[package.pip]", more))
    assert [each.address for each in verify(manifest(), now, MATRIX, today=DAY).drift] == ["library.nccl"]


def torch(driver, lock=""):
    more = 'torch = { version = "2.9.1" }\n[framework.torch]\nversion = "2.9.1+cu128"\ncuda = "12.8"'
    return manifest(driver=driver, more=more, lock=lock)


def test_a_machine_that_does_not_satisfy_is_a_finding():
    result = verify(torch("570.133.20"), torch("470.256.02"), MATRIX, today=DAY)
    assert [finding.rule for finding in result.findings] == ["driver-too-old-for-cuda"]
    assert result.verdict == "problem"


def test_what_is_wrong_on_the_locks_own_machine_too_is_no_finding():
    assert verify(torch("470.256.02"), torch("470.199.02"), MATRIX, today=DAY).findings == ()


def test_an_image_brings_no_machine_that_could_fail_to_satisfy():
    lock = loads(
        'schema = "envlock/1"\n[capture]\nsource = "import"\n[driver]\nversion = "570.133.20"\n[container]\nruntime = "docker"\n'
        '[framework.torch]\nversion = "2.9.1+cu128"\ncuda = "12.8"\n'
    )
    image = loads(
        'schema = "envlock/1"\n[capture]\nsource = "image"\n[capture.unobserved]\ndriver = "an image has none"\n'
    )
    assert verify(lock, image, MATRIX, today=DAY).findings == ()


WAIVER = '[[lock.waiver]]\nrule = "driver-too-old-for-cuda"\nreason = "to be upgraded"\nuntil = 2026-12-01'


def test_a_waiver_silences_its_rule_until_its_day_and_is_a_finding_after_it():
    lock, now = torch("570.133.20", WAIVER), torch("470.256.02")
    assert verify(lock, now, MATRIX, today=datetime.date(2026, 12, 1)).findings == ()
    late = verify(lock, now, MATRIX, today=datetime.date(2026, 12, 2)).findings
    assert {finding.rule for finding in late} == {"driver-too-old-for-cuda", "waiver-expired"}
    assert "to be upgraded" in next(each.message for each in late if each.rule == "waiver-expired")


def test_a_pasted_report_is_not_blamed_for_what_it_does_not_say():
    paste = loads(
        'schema = "envlock/1"\n[capture]\nsource = "import"\n[package.pip]\nnumpy = { version = "2.3.5" }\n'
    )
    assert verify(paste, manifest(), MATRIX, today=DAY).drift == ()


def test_an_expired_waiver_is_told_with_its_day_and_reason():
    (late,) = expired(manifest(lock=WAIVER).lock, datetime.date(2026, 12, 2))
    assert (late.rule, late.severity, late.layer, late.subject) == (
        "waiver-expired", "error", "lock", "lock.waiver",
    )  # fmt: skip
    assert late.message == "the waiver for driver-too-old-for-cuda ended on 2026-12-01: to be upgraded"
    assert [(each.address, each.value) for each in late.evidence] == [
        ("lock.waiver", "driver-too-old-for-cuda")
    ]
    assert list(expired(manifest(lock=WAIVER).lock, datetime.date(2026, 12, 1))) == []


@pytest.mark.parametrize(("address", "held"), [("driver", True), ("driver.version", True), ("gpu", False)])
def test_a_waiver_for_an_address_silences_what_lies_there(address, held):
    lock = torch("570.133.20", f'{WAIVER}\naddress = "{address}"')
    findings = verify(lock, torch("470.256.02"), MATRIX, today=DAY).findings
    assert (findings == ()) is held


def test_what_was_not_seen_is_told_by_its_side():
    unseen = '[capture.unobserved]\ngpu = "no driver"\ndriver = "none here"'
    lock = manifest(unobserved='[capture.unobserved]\ncompiler = "no gcc"')
    result = verify(lock, manifest(unobserved=unseen), MATRIX, today=DAY)
    assert [(each.address, each.reason, each.side) for each in result.unobserved] == [
        ("compiler", "no gcc", "lock"),
        ("driver", "none here", "now"),
        ("gpu", "no driver", "now"),
    ]
    assert (result.verdict, result.problems) == ("fine", False)


def test_what_a_paste_lacks_or_has_besides_is_no_drift_and_what_it_says_is():
    paste = 'schema = "envlock/1"\n[capture]\nsource = "import"\n[package.pip]\nnumpy = { version = "%s" }\n'
    now = verify(manifest(), loads(paste % "2.3.5"), MATRIX, today=DAY)
    assert now.drift == ()
    moved = verify(manifest(), loads(paste % "2.3.6"), MATRIX, today=DAY)
    assert "package.pip.numpy" in [change.address for change in moved.drift]


def test_a_level_holds_for_facts_of_the_machine_too():
    lock = '[lock.allow]\n"host.kernel" = "minor"'
    assert drift(lock, kernel="6.11.0") == []
    assert drift(lock, kernel="7.0.0") == ["host.kernel"]
    assert allowance(manifest(lock=lock).lock, "host.kernel") == "minor"
    assert allowance(manifest(lock=lock).lock, "driver.version") is None
