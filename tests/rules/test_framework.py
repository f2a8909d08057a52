"""A framework's release, its Python and its defects: one stack that breaks each, and near misses that do not."""

from tests.rules.support import found, only, pip


def test_a_torch_without_a_build_for_this_python():
    finding = only(
        "framework-python-unsupported", '[python]\nversion = "3.13.1"\n' + pip(torch="2.3.0"), "import"
    )
    assert (finding.subject, finding.severity) == ("package.pip.torch", "error")
    assert finding.fixes[0].address == "python.version"
    assert (
        found("framework-python-unsupported", '[python]\nversion = "3.12.1"\n' + pip(torch="2.3.0"), "import")
        == []
    )


def test_a_framework_that_was_seen_compiled_for_this_python_is_somebodys_own_build():
    text = '[python]\nversion = "3.13.1"\n[framework.torch]\nversion = "2.3.0"\n' + pip(torch="2.3.0")
    assert [finding.severity for finding in found("framework-python-unsupported", text)] == ["warning"]


def test_a_conda_package_for_another_python_is_the_solvers_to_judge():
    text = '[python]\nversion = "3.13.1"\n'
    for table, severity in (("conda", "warning"), ("pip", "error")):
        packages = f'[package.{table}]\nnumba = {{ version = "0.60.0" }}\n'
        assert only("framework-python-unsupported", text + packages).severity == severity


def test_a_known_defect_of_one_build_does_not_touch_the_other():
    bad = '[framework.torch]\nversion = "1.8.0"\ncuda = "{}"\n'
    finding = only("framework-known-bad", bad.format("10.2"))
    assert finding.severity == "warning"
    assert finding.fixes[0].to == ">=1.8.1"
    assert found("framework-known-bad", bad.format("11.1")) == []


def test_a_defect_of_a_build_on_one_kind_of_gpu() -> None:
    stack = '[[gpu]]\nname = "GTX 1080 Ti"\n[framework.torch]\nversion = "1.8.1+cu111"\ncuda = "11.1"\n'
    assert only("framework-known-bad", stack).severity == "warning"
    assert not found("framework-known-bad", stack.replace("GTX 1080 Ti", "RTX 3090"))
    assert not found(
        "framework-known-bad", stack.replace("1.8.1+cu111", "1.7.1+cu110").replace('"11.1"', '"11.0"')
    )
