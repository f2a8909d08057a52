"""System rules: C libraries, system libraries, CPU instructions and platforms, each broken and nearly so."""

import pytest

from tests.rules.support import found, only

OLD_OS = '[os]\nid = "rhel"\nversion = "8"\nlibc = "glibc 2.28"\n'


def test_a_binary_that_asks_for_a_newer_glibc():
    text = OLD_OS + '[framework.flash-attn]\nversion = "2.7.4"\nneeds = {{ libc = "glibc {}" }}\n'
    finding = only("libc-too-old", text.format("2.32"))
    assert (finding.subject, finding.severity) == ("os.libc", "error")
    assert "2.32" in finding.message
    assert "2.28" in finding.message
    assert finding.fixes[0].to == ">=2.32"
    assert found("libc-too-old", text.format("2.28")) == []
    assert found("libc-too-old", text.format("2.9")) == []


@pytest.mark.parametrize("libc", ["glibc 2.28", "glibc-2.28", "2.28", "GLIBC 2.28", "glibc 2.28-251.el8"])
def test_a_glibc_in_whatever_words_it_was_reported(libc):
    text = f'[os]\nlibc = "{libc}"\n[framework.ext]\nneeds = {{ libc = "GLIBC_2.32" }}\n'
    assert only("libc-too-old", text).subject == "os.libc"
    assert found("libc-too-old", text.replace("2.32", "2.28")) == []


def test_a_bare_symbol_version_is_of_glibcxx():
    text = '[os]\nlibstdcxx = "{}"\n[framework.ext]\nneeds = {{ libstdcxx = "GLIBCXX_3.4.29" }}\n'
    assert only("libstdcxx-too-old", text.format("3.4.25")).subject == "os.libstdcxx"
    assert found("libstdcxx-too-old", text.format("3.4.30")) == []
    assert found("libstdcxx-too-old", text.format("CXXABI_1.3.11")) == []


@pytest.mark.parametrize(
    ("system", "known"),
    [
        ('id = "ubuntu"\nversion = "18.04"', True),
        ('id = "ubuntu"\nversion = "20.04"', False),
        ('id = "ubuntu"', False),
        ('id = "alpine"\nlibc = "musl 1.2.4"', False),
    ],
)
def test_a_release_of_a_distribution_stands_for_its_glibc(system, known):
    text = f'[os]\n{system}\n[package.pip]\ntorch = {{ version = "2.7.0" }}\n'
    assert bool(found("libc-too-old", text, "import")) is known


def test_an_old_libstdcxx_that_wins_over_a_newer_one():
    text = (
        '[os]\nlibstdcxx = "GLIBCXX_3.4.30"\n[framework.ext]\nneeds = {{ libstdcxx = "GLIBCXX_3.4.29" }}\n'
        '[[library]]\nname = "libstdcxx"\nversion = "GLIBCXX_3.4.28"\npath = "/opt/conda/lib/libstdc++.so.6"\n{}'
    )
    finding = only("libstdcxx-too-old", text.format('used_by = ["ext"]\n'))
    assert finding.subject == "library.libstdcxx"
    assert "/opt/conda/lib/libstdc++.so.6" in finding.message
    assert len(finding.fixes) == 1
    # Not known which copy is loaded, and one of them will do.
    assert found("libstdcxx-too-old", text.format("")) == []


def test_a_system_library_that_the_loader_does_not_find():
    text = '[os]\nid = "debian"\n[framework.vllm]\nneeds = {{ library = "{}" }}\n'
    finding = only("system-library-missing", text.format("libnuma.so.1"))
    assert finding.subject == "framework.vllm.needs"
    assert "libnuma1" in finding.message
    assert finding.fixes
    assert found("system-library-missing", text.format("libcudart.so.12")) == []


def test_a_library_that_was_looked_for_in_vain_is_known_by_its_address():
    text = '[capture.unobserved]\n"library.{}" = "not found on this system"\n[package.pip]\n{} = {{}}\n'
    for library in ("libGL.so.1", "libGL"):
        finding = only("system-library-missing", text.format(library, "opencv-python"), "import")
        assert finding.subject == f"library.{library}"
    assert (
        found("system-library-missing", text.format("libGL.so.1", "opencv-python-headless"), "import") == []
    )


def test_opencv_with_windows_on_a_system_without_libgl():
    text = (
        '[os]\nid = "debian"\nversion = "12"\n[package.pip]\n{} = {{ version = "4.10.0.84" }}\n'
        '[package.system]\nlibgomp1 = "12.2.0"\n{}'
    )
    finding = only("system-library-missing", text.format("opencv-python", ""))
    assert [fix.to for fix in finding.fixes] == ["installed", "opencv-python-headless"]
    assert found("system-library-missing", text.format("opencv-python", 'libgl1 = "1.6.0"\n')) == []
    assert found("system-library-missing", text.format("opencv-python-headless", "")) == []


def test_a_build_for_instructions_that_the_cpu_lacks():
    text = '[host]\ncpu_level = "{}"\n[package.pip]\npolars = {{ version = "1.12.0" }}\n'
    finding = only("cpu-feature-missing", text.format("x86-64-v2"))
    assert (finding.subject, finding.severity) == ("host.cpu_level", "error")
    assert "AVX2" in finding.message
    assert found("cpu-feature-missing", text.format("x86-64-v3")) == []


@pytest.mark.parametrize(
    ("cpu", "package", "lacks"),
    [
        ("Intel(R) Celeron(R) CPU J1900 @ 1.99GHz", "tensorflow", True),
        ("Intel(R) Xeon(R) CPU           X5660  @ 2.80GHz", "tensorflow", True),
        ("Intel(R) Xeon(R) CPU E5-2690 0 @ 2.90GHz", "polars", True),
        ("Intel(R) Xeon(R) CPU E5-2690 0 @ 2.90GHz", "tensorflow", False),
        ("Intel(R) Xeon(R) CPU E5-2697 v3 @ 2.60GHz", "polars", False),
        ("AMD EPYC 7763 64-Core Processor", "polars", False),
        ("13th Gen Intel(R) Core(TM) i7-13700K", "polars", False),
        ("Intel(R) Xeon(R) Platinum 8468", "polars", False),
        ("Intel(R) Core(TM) i5 CPU       M 480  @ 2.67GHz", "tensorflow", True),
        ("Intel(R) Core(TM) i7 CPU         920  @ 2.67GHz", "jaxlib", True),
        ("AMD Athlon(tm) II X2 270 Processor", "tensorflow", True),
        ("AMD Opteron(tm) Processor 6128", "tensorflow", True),
        ("AMD Opteron(tm) Processor 6376", "tensorflow", False),
        ("AMD FX(tm)-8350 Eight-Core Processor", "polars", True),
        ("Intel(R) Celeron(R) N5105 @ 2.00GHz", "tensorflow", True),
        ("Intel(R) N100", "tensorflow", False),
        ("Common KVM processor", "tensorflow", True),
        ("Intel Atom(R) x7425E", "tensorflow", False),
        ("Intel(R) Xeon(R) Gold 5118 CPU @ 2.30GHz", "tensorflow", False),
        ("Intel(R) Xeon(R) CPU           X5660  @ 2.80GHz", "numpy", False),
    ],
)
def test_a_cpus_name_gives_its_family_away_where_its_flags_were_not_read(cpu, package, lacks):
    text = f'[host]\ncpu = "{cpu}"\n[package.pip]\n{package} = {{ version = "1.15.0" }}\n'
    told = [each for each in found("cpu-feature-missing", text, "import") if each.severity != "note"]
    assert bool(told) is lacks


def test_a_cpu_of_level_2_lacks_avx_only_if_its_name_says_so():
    text = '[host]\ncpu_level = "{}"\ncpu = "{}"\n[package.pip]\ntensorflow = {{ version = "2.5.0" }}\n'
    old, newer = "Intel(R) Xeon(R) CPU           X5690  @ 3.47GHz", "Intel(R) Xeon(R) CPU E5-2690 0 @ 2.90GHz"
    finding = only("cpu-feature-missing", text.format("x86-64-v2", old))
    assert "AVX" in finding.message
    assert finding.fixes
    assert found("cpu-feature-missing", text.format("x86-64-v2", newer)) == []
    assert found("cpu-feature-missing", text.format("x86-64-v3", old)) == []


def test_one_release_was_built_for_newer_cpus_than_its_neighbours():
    text = '[host]\ncpu_level = "x86-64-v2"\n[package.pip]\ntensorflow = {{ version = "{}" }}\n'
    assert "AVX2" in only("cpu-feature-missing", text.format("2.4.0")).message
    assert found("cpu-feature-missing", text.format("2.4.1")) == []


def test_a_project_with_wheels_for_linux_alone():
    text = '[host]\nplatform = "{}"\n[package.pip]\nvllm = {{ version = "0.6.3"{} }}\n'
    finding = only("wheel-platform-mismatch", text.format("windows", ', installer = "pip"'))
    assert finding.subject == "package.pip.vllm"
    assert found("wheel-platform-mismatch", text.format("linux", ', installer = "pip"')) == []
    assert (
        found("wheel-platform-mismatch", text.format("windows", ', source = "file:///src/vllm"'), "import")
        == []
    )


def test_a_distribution_for_newer_cpus():
    text = '[host]\ncpu_level = "{}"\n[os]\nid = "rhel"\nversion = "10.0"\n'
    assert "x86-64-v3" in only("cpu-feature-missing", text.format("x86-64-v2")).message
    assert found("cpu-feature-missing", text.format("x86-64-v3")) == []


def test_wheels_for_glibc_on_musl():
    text = '[os]\nid = "alpine"\nlibc = "musl 1.2.5"\n[package.pip]\n{} = {{ version = "2.4.0"{} }}\n'
    assert only("wheel-platform-mismatch", text.format("torch", ', installer = "pip"')).subject == "os.libc"
    assert only("wheel-platform-mismatch", text.format("torch", ""), "import").subject == "os.libc"
    assert found("wheel-platform-mismatch", text.format("pandas", ', installer = "pip"')) == []
    # Alpine's own package, which was built for musl.
    assert found("wheel-platform-mismatch", text.format("onnxruntime", "")) == []


def test_a_conda_package_of_another_platform():
    text = '[host]\narch = "aarch64"\nplatform = "linux"\n[package.conda]\nnumpy = {{ version = "1.26.4", subdir = "{}" }}\n'
    assert only("wheel-platform-mismatch", text.format("linux-64")).subject == "package.conda.numpy"
    assert found("wheel-platform-mismatch", text.format("linux-aarch64")) == []
    assert found("wheel-platform-mismatch", text.format("noarch")) == []


@pytest.mark.parametrize(
    ("version", "severity"),
    [("9.0.1", "warning"), ("19.3", "note"), ("20.0.2", "note"), ("20.3", None), ("24.0", None)],
)
def test_an_old_pip_does_not_know_todays_tags(version, severity):
    findings = found("wheel-platform-mismatch", f'[package.pip]\npip = {{ version = "{version}" }}\n')
    assert [finding.severity for finding in findings] == ([severity] if severity else [])


@pytest.mark.parametrize(
    "said",
    ['[host]\nplatform = "windows"\n', '[host]\nplatform = "darwin"\n', '[python]\nversion = "2.7.18"\n'],
)
def test_where_an_old_pip_misses_nothing(said):
    assert found("wheel-platform-mismatch", said + '[package.pip]\npip = { version = "9.0.1" }\n') == []


@pytest.mark.parametrize(
    ("said", "known"),
    [
        ('[host]\narch = "x86_64"\nplatform = "wsl2"\n', True),
        ('[host]\narch = "aarch64"\n', False),
        ('[host]\nplatform = "windows"\n', False),
        ('[package.conda]\npytorch = { version = "2.7.0" }\n', False),
        ('[framework.torch]\nneeds = { libc = "glibc 2.17" }\n', False),
    ],
)
def test_pypis_torch_needs_what_its_tag_says(said, known):
    text = '[os]\nlibc = "glibc 2.27"\n' + said + '[package.pip]\ntorch = { version = "2.7.0" }\n'
    assert bool(found("libc-too-old", text, "import")) is known


@pytest.mark.parametrize(
    ("os", "package"),
    [
        ("amzn", "mesa-libGL"),
        ("sles", "mesa-libGL"),
        ("fedora", "mesa-libGL"),
        ("debian", "libgl1"),
        ("", "libgl1"),
    ],
)
def test_the_package_that_carries_a_library_on_each_system(os, package):
    text = f'[os]\nid = "{os}"\n[framework.ext]\nneeds = {{ library = "libGL.so.1" }}\n'
    assert f"(package {package})" in only("system-library-missing", text).message


def test_opencv_whose_files_were_read_is_judged_by_them_and_once():
    text = (
        '[os]\nid = "debian"\nversion = "12"\n[framework.opencv-python]\nneeds = { library = "libGL.so.1, libgthread-2.0.so.0, '
        'libglib-2.0.so.0" }\n[package.pip]\nopencv-python = { version = "4.10.0.84" }\n[package.system]\nlibgomp1 = "12.2.0"\n'
    )
    finding = only("system-library-missing", text)
    assert finding.fixes[0].message == "install libgl1; install libglib2.0-0"


# ---- what a thin report is pointed to


def test_a_cpu_without_avx2_is_pointed_to_where_nobody_knows_what_a_package_needs():
    text = '[host]\ncpu_level = "{}"\n[package.pip]\nacme = {{ version = "0.7.1" }}\n'
    finding = only("cpu-feature-missing", text.format("x86-64-v2"), "import")
    assert (finding.subject, finding.severity, finding.breaks) == ("host.cpu_level", "note", False)
    assert found("cpu-feature-missing", text.format("x86-64-v3"), "import") == []
    assert found("cpu-feature-missing", text.format("x86-64-v2")) == []
    text = '[host]\ncpu_level = "x86-64-v2"\n[package.pip]\ntensorflow = { version = "2.5.0" }\n'
    assert found("cpu-feature-missing", text, "import") == [], "TensorFlow's needs are known, and met"


def test_an_old_glibc_is_pointed_to_where_nobody_knows_what_a_package_needs():
    text = '[os]\nid = "centos"\nversion = "{}"\n[package.pip]\nacme = {{}}\n'
    finding = only("libc-too-old", text.format("7.6"), "import")
    assert (finding.subject, finding.severity) == ("os.version", "note")
    assert found("libc-too-old", text.format("8"), "import") == []
    assert found("libc-too-old", text.format("7.6")) == []


def test_a_release_without_wheels_for_this_python_is_built_from_source():
    text = '[python]\nversion = "{}"\n[package.pip]\nnumpy = {{ version = "{}" }}\n'
    finding = only("wheel-platform-mismatch", text.format("3.12.3", "1.24.0"), "import")
    assert (finding.subject, finding.severity) == ("package.pip.numpy", "note")
    assert [fix.to for fix in finding.fixes] == [">=1.26.0"]
    assert found("wheel-platform-mismatch", text.format("3.12.3", "1.26.0"), "import") == []
    assert found("wheel-platform-mismatch", text.format("3.11.9", "1.24.0"), "import") == []
    assert found("wheel-platform-mismatch", text.format("3.12.3", "1.24.0")) == [], (
        "it is there, so it was built"
    )


def test_a_windows_without_the_visual_cpp_runtime():
    text = (
        '[capture]\nsource = "import"\n[capture.unobserved]\n"library.msvcp140" = "msvcp140.dll was not found"\n'
        "[package.pip]\n{} = {{}}\n"
    )
    finding = only("system-library-missing", text.format("kiwisolver"))
    assert (finding.subject, finding.severity) == ("library.msvcp140", "warning")
    assert found("system-library-missing", text.format("six")) == []


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ('arch = "aarch64"', True),
        ('arch = "armv7l"\nplatform = "linux"', True),
        ('arch = "x86_64"', False),
        ('arch = "arm64"\nplatform = "darwin"', False),
    ],
)
def test_an_architecture_with_fewer_wheels(host, told):
    findings = found("wheel-platform-mismatch", f"[host]\n{host}\n", "import")
    assert [(each.subject, each.severity) for each in findings] == ([("host.arch", "note")] if told else [])
    assert found("wheel-platform-mismatch", f"[host]\n{host}\n") == []
