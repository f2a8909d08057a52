"""Which difference is blamed, and what is said to be proven."""

import envlock
from envlock.manifest.read import loads

HEAD = 'schema = "envlock/1"\n[capture]\nsource = "live"\n'
STACK = (
    HEAD
    + """
[driver]
version = "{driver}"
[framework.torch]
version = "{torch}"
cuda = "{cuda}"
[package.pip]
torch = {{ version = "{torch}" }}
tqdm = {{ version = "{tqdm}" }}
"""
)
GOOD = {"driver": "570.133.20", "torch": "2.6.0+cu124", "cuda": "12.4", "tqdm": "4.66.0"}


def stack(**changed):
    return loads(STACK.format(**{**GOOD, **changed}))


def test_the_one_difference_that_cures_is_proven_and_first():
    difference = envlock.diff(stack(driver="470.256.02", tqdm="4.67.1"), stack())
    first, *rest = difference.causes
    assert (first.address, first.proven, first.rule) == ("driver.version", True, "driver-too-old-for-cuda")
    assert "reverting it removes" in first.why
    assert not any(cause.proven for cause in rest)
    assert difference.bad == "mine"


def test_two_differences_that_each_cure_are_both_proven():
    difference = envlock.diff(stack(driver="470.256.02"), stack(torch="1.12.1+cu113", cuda="11.3"))
    assert {cause.address for cause in difference.causes if cause.proven} >= {
        "driver.version",
        "package.pip.torch",
    } or {cause.address for cause in difference.causes if cause.proven} == {
        "driver.version",
        "package.pip.torch",
    }


def test_a_finding_that_both_sides_have_explains_nothing():
    difference = envlock.diff(stack(driver="470.256.02", tqdm="4.67.1"), stack(driver="470.256.02"))
    assert [cause.address for cause in difference.causes] == ["package.pip.tqdm"]
    assert not difference.causes[0].proven
    assert all(finding.shared for finding in difference.findings)


def test_a_minimal_set_is_found_where_no_single_change_cures():
    # Two packages each ask for a numpy that is too new: only both together lift the finding.
    text = (
        HEAD
        + '[package.pip]\nnumpy = {{ version = "{n}" }}\nscipy = {{ version = "{s}" }}\n[requires]\nscipy = ["numpy{r}"]\n'
    )
    bad = loads(text.format(n="1.26.4", s="1.16.3", r=">=2.1"))
    good = loads(text.format(n="2.3.5", s="1.11.4", r="<2.4"))
    difference = envlock.diff(bad, good, bad="mine")
    assert difference.causes[0].address == "package.pip.numpy"
    assert difference.causes[0].proven


def test_stating_the_bad_side_turns_the_blame():
    difference = envlock.diff(stack(driver="470.256.02"), stack(), bad="theirs")
    assert difference.bad == "theirs"
    assert not any(cause.proven for cause in difference.causes)


def test_harmless_differences_are_never_proven():
    difference = envlock.diff(stack(tqdm="4.67.1", torch="2.6.1+cu124"), stack())
    assert difference.bad is None
    assert not any(cause.proven for cause in difference.causes)
    assert [cause.address for cause in difference.causes] == ["package.pip.torch", "package.pip.tqdm"]


def test_what_lies_beside_the_environment_in_use_is_never_proven_and_suspected_last():
    beside = '\n[conda."/opt/conda"]\nnumpy = {{ version = "{}" }}\npytorch = {{ version = "2.{}.0" }}\n'
    bad, good = (
        loads(STACK.format(**{**GOOD, **changed}) + beside.format(number, number))
        for number, changed in ((1, {"driver": "470.256.02", "tqdm": "4.67.1"}), (2, {}))
    )
    first, *rest = envlock.diff(bad, good).causes
    assert (first.address, first.proven) == ("driver.version", True)
    assert first.addresses == ("driver.version",)
    assert [cause.address for cause in rest] == [
        "package.pip.tqdm",
        "conda./opt/conda.numpy",
        "conda./opt/conda.pytorch",
    ]
    assert "beside the environment in use" in rest[-1].why


def test_the_order_is_the_same_every_time():
    one, two = stack(driver="470.256.02", tqdm="4.67.1"), stack(torch="2.7.0+cu126", cuda="12.6")
    assert envlock.diff(one, two) == envlock.diff(one, two)


def test_a_log_that_names_a_package_raises_it():
    one, two = stack(tqdm="4.67.1", torch="2.6.1+cu124"), stack()
    log = 'Traceback (most recent call last):\n  File "x.py", line 1\nImportError: cannot import name "auto" from "tqdm"\n'
    assert envlock.diff(one, two).causes[0].address == "package.pip.torch"
    assert envlock.diff(one, two, log=log).causes[0].address == "package.pip.tqdm"


def test_a_conda_build_that_was_only_made_anew_is_no_better_suspect_than_a_new_version():
    text = (
        HEAD
        + '[package.conda]\nacmelib = {{ version = "{}", build = "{}" }}\nother = {{ version = "2.0", build = "{}" }}\n'
    )
    bad = loads(text.format("11.1.4", "hf4da5c8_0", "h630e368_2"))
    good = loads(text.format("11.0.2", "h7f575de_0", "hc493ae7_1"))
    assert envlock.diff(bad, good).causes[0].address == "package.conda.acmelib"
    cpu = loads(text.format("11.0.2", "h7f575de_0", "cpu_h630e368_2"))
    cuda = loads(text.format("11.0.3", "h7f575de_0", "cuda_hc493ae7_1"))
    assert envlock.diff(cpu, cuda).causes[0].address == "package.conda.other"


def test_what_broke_others_before_stands_before_what_never_did():
    text = HEAD + '[package.pip]\niniconfig = {{ version = "{}" }}\nsqlalchemy = {{ version = "{}" }}\n{}'
    bad, good = loads(text.format("2.0.0", "1.4.6", "")), loads(text.format("2.1.0", "1.3.18", ""))
    first = envlock.diff(bad, good).causes[0]
    assert (first.address, first.proven) == ("package.pip.sqlalchemy", False)
    assert "known to break others" in first.why
    variable = '[environ]\nREQUESTS_CA_BUNDLE = ""\n'
    bad = loads(text.format("2.0.0", "1.4.6", variable))
    assert (
        envlock.diff(bad, loads(text.format("2.1.0", "1.4.6", ""))).causes[0].address
        == "environ.REQUESTS_CA_BUNDLE"
    )
