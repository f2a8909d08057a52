"""Rules about packages: pairs that do not work together, NumPy 2, shared modules, OpenMP, and records."""

import pytest

from envlock.rules.package import boundary
from tests.rules.support import found, only, pip

# ---- known-breakage


def test_a_pair_that_does_not_work_names_the_newer_half_and_both_ways_out():
    finding = only("known-breakage", pip(openai="1.30.0", httpx="0.28.1"))
    assert (finding.subject, finding.severity) == ("package.pip.httpx", "error")
    assert "openai 1.30.0" in finding.message
    assert {fix.address for fix in finding.fixes} == {"package.pip.httpx", "package.pip.openai"}
    assert found("known-breakage", pip(openai="1.30.0", httpx="0.27.2")) == []
    assert found("known-breakage", pip(openai="1.60.0", httpx="0.28.1")) == []


def test_a_pair_of_which_one_version_is_not_known_is_only_possible():
    text = '[package.pip]\nopenai = {}\nhttpx = { version = "0.28.1" }\n'
    finding = only("known-breakage", text, "import")
    assert finding.severity == "warning"
    assert "if it is openai" in finding.message
    assert found("known-breakage", "[package.pip]\nopenai = {}\nhttpx = {}\n", "import") == []


def test_a_package_and_what_it_brings_along_are_told_once():
    finding = only("known-breakage", pip(ctranslate2="4.4.0", torch="2.5.1", nvidia_cudnn_cu12="9.1.0.70"))
    assert (finding.subject, finding.severity) == ("package.pip.ctranslate2", "warning")
    assert "libcudnn_ops_infer.so.8" in finding.message
    assert (
        found("known-breakage", pip(ctranslate2="4.4.0", torch="2.3.1", nvidia_cudnn_cu12="8.9.2.26")) == []
    )
    assert (
        found("known-breakage", pip(ctranslate2="4.5.0", torch="2.5.1", nvidia_cudnn_cu12="9.1.0.70")) == []
    )


CUDNN = '[[library]]\nname = "cudnn"\nversion = "{}"\npath = "{}"\n'
SYSTEM = "/usr/lib/x86_64-linux-gnu/libcudnn.so"
WHEEL = "/opt/venv/lib/python3.11/site-packages/nvidia/cudnn/lib/libcudnn.so"


@pytest.mark.parametrize(
    ("release", "cudnn", "missing"),
    [("4.4.0", "9.1.0", "libcudnn_ops_infer.so.8"), ("4.5.0", "8.9.7", "libcudnn_ops.so.9")],
)
def test_a_package_and_a_library_of_the_system(release: str, cudnn: str, missing: str):
    text = pip(ctranslate2=release) + CUDNN.format(cudnn, SYSTEM)
    finding = only("known-breakage", text)
    assert (finding.subject, finding.severity) == ("package.pip.ctranslate2", "warning")
    assert missing in finding.message and finding.evidence[1].address == "library.cudnn"
    assert (
        found(
            "known-breakage",
            pip(ctranslate2=release) + CUDNN.format("8.9.7" if cudnn[0] == "9" else "9.1.0", SYSTEM),
        )
        == []
    )
    # Not where another copy may be the one that is loaded, nor from 4.6.3 on, which does without cuDNN.
    assert found("known-breakage", text + CUDNN.format("9.5.1", WHEEL)) == []
    assert found("known-breakage", pip(ctranslate2=release) + CUDNN.format(cudnn, WHEEL)) == []
    assert found("known-breakage", pip(ctranslate2="4.6.3") + CUDNN.format(cudnn, SYSTEM)) == []


def test_a_row_for_every_release_holds_without_a_version():
    text = '[package.pip]\n{} = {{ version = "4.8.1.78" }}\npyqt5 = {{}}\n'
    finding = only("known-breakage", text.format("opencv-python"), "import")
    assert (finding.subject, finding.severity) == ("package.pip.opencv-python", "note")
    assert found("known-breakage", text.format("opencv-python-headless"), "import") == []


def test_a_thin_report_is_pointed_to_a_release_that_took_something_away():
    finding = only("known-breakage", pip(acme="1.0", numpy="1.24.0"), "import")
    assert (finding.subject, finding.severity, finding.breaks) == ("package.pip.numpy", "note", False)
    assert "np.float" in finding.message
    assert found("known-breakage", pip(acme="1.4", numpy="1.23.5"), "import") == []
    assert found("known-breakage", pip(numpy="1.24.0"), "import") == []
    assert found("known-breakage", pip(acme="1.0", numpy="1.24.0")) == [], (
        "a capture is told what is known of it"
    )
    # What a row says of the very package is enough.
    assert only("known-breakage", pip(openai="1.30.0", httpx="0.28.1"), "import").severity == "error"


def test_numba_refuses_a_numpy_outside_its_range():
    finding = only("known-breakage", pip(numba="0.56.0", numpy="1.24.1"))
    assert (finding.subject, finding.severity) == ("package.pip.numpy", "error")
    assert "Numba needs NumPy" in finding.message
    assert len(finding.fixes) == 1
    assert found("known-breakage", pip(numba="0.56.0", numpy="1.22.4")) == []
    assert found("known-breakage", pip(numba="99.0.0", numpy="1.22.4")) == []


def test_a_breakage_that_only_some_pythons_have():
    text = '[python]\nversion = "{}"\n' + pip(flake8="3.9.2", importlib_metadata="6.0.0").replace(
        "{", "{{"
    ).replace("}", "}}")
    assert only("known-breakage", text.format("3.7.16")).subject == "package.pip.importlib-metadata"
    assert found("known-breakage", text.format("3.11.4")) == []


@pytest.mark.parametrize(
    ("broken", "near", "severity"),
    [
        (
            {"albumentations": "1.4.8", "albucore": "0.0.17"},
            {"albumentations": "1.4.7", "albucore": "0.0.17"},
            "error",
        ),
        (
            {"celery": "5.2.5", "importlib-metadata": "5.0.0"},
            {"celery": "5.2.3", "importlib-metadata": "5.0.0"},
            "error",
        ),
        ({"connexion": "2.14.2", "flask": "2.3.0"}, {"connexion": "2.15.0", "flask": "3.0.0"}, "error"),
        ({"dgl": "2.1.0", "torchdata": "0.10.1"}, {"dgl": "2.0.0", "torchdata": "0.10.1"}, "error"),
        (
            {"efficientnet": "1.1.0", "keras": "2.12.0"},
            {"efficientnet": "1.1.1", "keras": "2.12.0"},
            "warning",
        ),
        ({"flax": "0.8.1", "jax": "0.6.0"}, {"flax": "0.8.2", "jax": "0.6.0"}, "error"),
        ({"gradio": "4.44.1", "pydantic": "2.11.1"}, {"gradio": "4.36.1", "pydantic": "2.11.1"}, "error"),
        ({"gym": "0.25.0", "numpy": "2.0.0"}, {"gym": "0.24.1", "numpy": "2.0.0"}, "error"),
        ({"httplib2": "0.20.1", "pyparsing": "3.0.9"}, {"httplib2": "0.20.2", "pyparsing": "3.0.9"}, "error"),
        (
            {"imbalanced-learn": "0.10.1", "scikit-learn": "1.3.0"},
            {"imbalanced-learn": "0.9.1", "scikit-learn": "1.3.0"},
            "error",
        ),
        ({"mmdet3d": "1.0.0rc6", "mmcv": "2.0.0"}, {"mmdet3d": "1.1.0", "mmcv": "2.0.0"}, "error"),
    ],
)
def test_a_pair_breaks_between_the_releases_whose_code_was_read(
    broken: dict[str, str], near: dict[str, str], severity: str
) -> None:
    python = '[python]\nversion = "3.7.16"\n'
    assert only("known-breakage", python + pip(**broken)).severity == severity
    assert found("known-breakage", python + pip(**near)) == []


def test_gym_asks_for_the_backport_of_importlib_metadata_on_old_pythons_only() -> None:
    text = '[python]\nversion = "{}"\n[package.pip]\n'
    packages = 'gym = {version = "0.21.0"}\nimportlib-metadata = {version = "6.0.0"}\n'
    assert only("known-breakage", text.format("3.7.16") + packages).severity == "warning"
    assert found("known-breakage", text.format("3.10.12") + packages) == []


def test_what_keeps_a_package_from_being_built_is_a_note_where_it_is_installed() -> None:
    findings = found("known-breakage", pip(gym="0.21.0", setuptools="67.0.0", wheel="0.40.0"))
    assert [finding.severity for finding in findings] == ["note", "note"]
    assert len(found("known-breakage", pip(gym="0.21.0", setuptools="67.0.0", wheel="0.38.4"))) == 1


def test_a_package_too_old_for_its_python():
    text = '[python]\nversion = "3.12.1"\n'
    finding = only("known-breakage", text + pip(setuptools="65.5.0"))
    assert (finding.subject, finding.severity) == ("package.pip.setuptools", "error")
    assert found("known-breakage", text + pip(setuptools="75.0.0")) == []


def test_a_module_that_python_took_away_and_another_package_gives_back():
    python = '[python]\nversion = "3.13.1"\n'
    assert only("known-breakage", python + pip(pydub="0.25.1")).severity == "error"
    assert found("known-breakage", python + pip(pydub="0.25.1", **{"audioop-lts": "0.2.2"})) == []


def test_a_report_need_not_list_the_package_that_gives_a_module_back():
    text = '[capture]\nsource = "import"\n[python]\nversion = "3.13.1"\n' + pip(pydub="0.25.1")
    assert only("known-breakage", text).severity == "warning"


@pytest.mark.parametrize(("openssl", "known"), [("1.0.2k", True), ("1.1.1w", False), ("3.0.14", False)])
def test_a_platform_condition_reads_openssls_letters_as_patches(openssl, known):
    text = f'[python]\nversion = "3.9.1"\nopenssl = "{openssl}"\n' + pip(urllib3="2.2.1")
    assert bool(found("known-breakage", text)) is known


def test_two_conda_packages_from_channels_that_do_not_mix():
    text = (
        '[package.conda]\nlibmamba = {{ version = "1.5.8", channel = "{}" }}\n'
        'libarchive = {{ version = "3.7", channel = "{}" }}\n'
    )
    finding = only(
        "known-breakage", text.format("pkgs/main", "https://conda.anaconda.org/conda-forge/linux-64")
    )
    assert finding.subject == "package.conda.libmamba"
    assert (
        found("known-breakage", text.format("conda-forge", "https://conda.anaconda.org/conda-forge/linux-64"))
        == []
    )


@pytest.mark.parametrize(("libarchive", "known"), [("3.6.2", True), ("3.7.4", True), ("3.7.7", False)])
def test_libarchive_has_one_file_name_in_all_channels_from_3_7_5_on(libarchive, known):
    text = (
        '[package.conda]\nlibmamba = { version = "2.0.5", channel = "pkgs/main" }\n'
        f'libarchive = {{ version = "{libarchive}", channel = "conda-forge" }}\n'
    )
    severities = {finding.severity for finding in found("known-breakage", text)}
    assert ("error" in severities) is known


@pytest.mark.parametrize(
    ("cryptography", "channel", "openssl", "known"),
    [
        ("36.0.0", "pkgs/main", "3.0.5", True),
        ("36.0.0", "pkgs/main", "1.1.1q", False),
        ("43.0.0", "pkgs/main", "3.0.5", False),
        ("36.0.0", "conda-forge", "3.0.5", False),
    ],
)
def test_a_channel_mix_holds_for_the_releases_and_the_channel_of_its_row(
    cryptography, channel, openssl, known
):
    other = "conda-forge" if channel == "pkgs/main" else "pkgs/main"
    text = (
        f'[package.conda]\ncryptography = {{ version = "{cryptography}", channel = "{channel}" }}\n'
        f'openssl = {{ version = "{openssl}", channel = "{other}" }}\n'
    )
    assert bool(found("known-breakage", text)) is known


@pytest.mark.parametrize(
    ("mamba", "conda", "source", "known"),
    [
        ('version = "1.5.1"', 'version = "23.9.0"', "", True),
        ('version = "1.5.1", build = "py310_0"', 'version = "23.9.0"', "", True),
        ('version = "1.5.1", build = "py310_0"', 'version = "23.9.0", build = "py310_1"', "", False),
        ('version = "1.5.1", build = "py310_0"', 'version = "23.9.0", build = "py310_1"', "import", True),
        ('version = "1.5.2"', 'version = "23.9.0"', "", False),
    ],
)
def test_condas_solver_has_read_what_two_builds_ask_for(mamba, conda, source, known):
    text = f"[package.conda]\nmamba = {{ {mamba} }}\nconda = {{ {conda} }}\n"
    assert bool(found("known-breakage", text, source)) is known


def test_what_condas_solver_lets_through_is_told_of_builds_too():
    text = (
        '[package.conda]\npytorch = {{ version = "2.1.2", build = "py3.11_cuda12.1_cudnn8.9.2_0" }}\n'
        'mkl = {{ version = "{}", build = "ha957f24_691" }}\n'
    )
    assert only("known-breakage", text.format("2024.1.0")).subject == "package.conda.mkl"
    assert found("known-breakage", text.format("2023.1.0")) == []


def test_a_row_for_pips_packages_leaves_condas_alone():
    pair = '{{ version = "2.8.1" }}\n{} = {{ version = "2.6.0" }}\n'
    assert found("known-breakage", "[package.pip]\nflash-attn = " + pair.format("torch"))
    assert found("known-breakage", "[package.conda]\nflash-attn = " + pair.format("pytorch")) == []


def test_numba_and_numpy_of_conda_are_the_solvers_to_judge():
    text = (
        '[package.{}]\nnumba = {{ version = "0.56.0" }}\n[package.conda]\nnumpy = {{ version = "1.24.1" }}\n'
    )
    assert only("known-breakage", text.format("pip")).subject == "package.conda.numpy"
    both = '[package.conda]\nnumba = { version = "0.56.0" }\nnumpy = { version = "1.24.1" }\n'
    assert found("known-breakage", both) == []


@pytest.mark.parametrize(
    ("package", "host", "known"),
    [
        ("numpy", 'platform = "windows"', True),
        ("numpy", 'platform = "linux"', False),
        ("numpy", "", False),
    ],
)
def test_a_release_that_one_platform_breaks(package, host, known):
    text = f"[host]\n{host}\n" + pip(**{package: "1.19.4"})
    assert bool(found("known-breakage", text)) is known


@pytest.mark.parametrize(
    ("toolkit", "driver", "known"),
    [("1.14.3-1", "555.85", True), ("1.14.4-1", "555.85", False), ("1.14.3-1", "552.22", False)],
)
def test_a_system_package_that_fails_under_a_newer_driver(toolkit, driver, known):
    text = f'[host]\nplatform = "wsl2"\n[driver]\nversion = "{driver}"\n'
    text += f'[package.system]\nnvidia-container-toolkit = "{toolkit}"\n'
    assert bool(found("known-breakage", text)) is known


def test_a_thin_report_of_two_channels_is_pointed_to_its_library():
    text = '[package.conda]\nlibfoo = {{ channel = "{}" }}\nbar = {{ channel = "conda-forge" }}\n'
    finding = only("known-breakage", text.format("defaults"), "import")
    assert (finding.subject, finding.severity, finding.breaks) == ("package.conda.libfoo", "note", False)
    assert found("known-breakage", text.format("conda-forge"), "import") == []
    assert found("known-breakage", text.format("defaults")) == [], (
        "a capture has its builds, which the solver knew"
    )


# ---- numpy-abi


def test_modules_built_for_numpy_1_beside_numpy_2():
    finding = only("numpy-abi", pip(numpy="2.0.1", pandas="2.1.4", scipy="1.13.0", torch="2.2.2"))
    assert (finding.subject, finding.severity) == ("package.pip.numpy", "error")
    assert "pandas 2.1.4" in finding.message
    assert "torch 2.2.2" in finding.message
    assert "scipy" not in finding.message
    assert {fix.to for fix in finding.fixes} >= {"<2"}


@pytest.mark.parametrize(
    "versions",
    [{"numpy": "2.0.1"}, {"numpy": "1.26.4", "pandas": "2.1.4"}, {"numpy": "2.1.0", "pandas": "2.2.3"}],
)
def test_numpy_alone_or_with_modules_for_it_is_fine(versions):
    assert found("numpy-abi", pip(**versions)) == []


def test_what_an_extension_says_it_was_compiled_with():
    text = pip(numpy="2.0.1") + '[framework.ext]\nbuilt_for = {{ numpy = "{}" }}\n'.replace(
        "{{", "{"
    ).replace("}}", "}")
    assert "ext" in only("numpy-abi", text.replace("{}", "1.26")).message
    assert found("numpy-abi", text.replace("{}", "2.0")) == []


def test_a_module_of_unknown_version_says_nothing_of_an_environment_that_was_read():
    text = '[package.pip]\nnumpy = { version = "2.0.1" }\npandas = {}\n'
    assert found("numpy-abi", text) == []
    assert only("numpy-abi", text, "import").severity == "note"


@pytest.mark.parametrize(
    ("numpy", "pandas", "known"),
    [("conda", "conda", False), ("pip", "conda", True), ("conda", "pip", True)],
)
def test_which_numpy_condas_builds_are_for_is_the_solvers_to_judge(numpy, pandas, known):
    text = f'[package.{numpy}]\nnumpy = {{ version = "2.0.1" }}\n'
    other = 'pandas = { version = "2.1.4" }\n'
    text += other if numpy == pandas else f"[package.{pandas}]\n{other}"
    assert bool(found("numpy-abi", text)) is known


# ---- two of one kind


def test_two_owners_of_one_module():
    finding = only("module-overlap", pip(onnxruntime="1.20.1", onnxruntime_gpu="1.20.1"))
    assert finding.subject == "package.pip.onnxruntime"
    assert "onnxruntime-gpu" in finding.message
    assert finding.fixes[0].trial == {"package.pip.onnxruntime": None}
    assert found("module-overlap", pip(onnxruntime_gpu="1.20.1", numpy="2.0.0")) == []


def test_the_same_module_name_proves_nothing_of_distributions_that_no_source_sets_apart():
    text = (
        '[package.pip]\nlazr-uri = { version = "1.0.6", imports = ["lazr"] }\n'
        'lazr-restfulclient = { version = "0.14.5", imports = ["lazr"] }\n'
    )
    assert found("module-overlap", text) == []


def test_an_overlap_with_condas_own_package_keeps_that():
    conda = '[package.conda]\ncupy = { version = "13.2.0", build = "py311_0" }\n'
    finding = only("module-overlap", conda + pip(cupy_cuda12x="13.3.0"))
    assert finding.subject == "package.pip.cupy-cuda12x"
    assert "conda install --force-reinstall cupy" in finding.fixes[0].message
    assert found("module-overlap", conda) == []


def test_an_empty_stand_in_overlaps_nothing():
    assert found("module-overlap", pip(tensorflow="2.10.0", tensorflow_gpu="2.10.0")) != []
    assert found("module-overlap", pip(tensorflow="2.12.0", tensorflow_gpu="2.12.0")) == []
    assert found("module-overlap", pip(pynvml="11.4.1", nvidia_ml_py="12.535.77")) != []
    assert found("module-overlap", pip(pynvml="12.0.0", nvidia_ml_py="12.535.77")) == []


def openmp(*copies):
    return "".join(
        f'[[library]]\nname = "openmp"\nsoname = "{soname}"\npath = "/env/{n}/{soname}"\n'
        for n, soname in enumerate(copies)
    )


def test_two_copies_of_llvms_runtime_and_two_of_gnus():
    finding = only("openmp-duplicated", openmp("libiomp5.so", "libomp.so"))
    assert (finding.subject, finding.severity) == ("library.openmp", "warning")
    assert "/env/1/libomp.so" in finding.message
    assert len(finding.fixes) == 1
    assert (
        found("openmp-duplicated", openmp("libgomp.so.1", "libgomp-a34b3233.so.1.0.0", "libiomp5.so")) == []
    )


def test_copies_without_a_path_are_counted_as_they_are_listed():
    copy = '[[library]]\nname = "openmp"\nsoname = "libiomp5md.dll"\n'
    finding = only("openmp-duplicated", copy + 'provider = "pip:ctranslate2"\n' + copy, "import")
    assert "libiomp5md.dll of pip:ctranslate2" in finding.message
    assert found("openmp-duplicated", copy, "import") == []


def test_mkl_asked_for_intels_runtime_beside_gnus():
    text = openmp("libgomp.so.1") + '[environ]\nMKL_THREADING_LAYER = "{}"\n'
    finding = only("openmp-duplicated", text.format("INTEL"))
    assert finding.subject == "environ.MKL_THREADING_LAYER"
    assert finding.fixes[0].to == "GNU"
    assert found("openmp-duplicated", text.format("GNU")) == []


# ---- records


def test_files_that_differ_from_their_record():
    text = '[package.pip]\nacme = {{ version = "1.0", modified = [{}] }}\n'
    finding = only("package-modified", text.format('"acme/core.py", "acme/util.py"'))
    assert "acme/core.py" in finding.message
    assert len(finding.fixes) == 1
    assert found("package-modified", text.format("")) == []


def test_a_module_of_another_version_than_the_metadata():
    text = pip(torch="2.8.0") + '[framework.torch]\nversion = "{}"\n'
    finding = only("package-shadowed", text.replace("{}", "2.6.0+cu124"))
    assert finding.subject == "package.pip.torch"
    assert "2.6.0" in finding.message
    assert found("package-shadowed", text.replace("{}", "2.8.0+cu128")) == []


def test_an_unmet_requirement_and_a_stand_in():
    text = pip(acme="1.0", numpy="1.20.0") + '[requires]\nacme = ["numpy>=1.22"]\n'
    finding = only("requirement-unmet", text)
    assert finding.subject == "package.pip.numpy"
    assert finding.fixes[0].trial == {"package.pip.numpy.version": "1.22"}
    assert (
        found(
            "requirement-unmet",
            pip(acme="1.0", opencv_python_headless="4.10") + '[requires]\nacme = ["opencv-python"]\n',
        )
        == []
    )


@pytest.mark.parametrize(
    ("unseen", "known"),
    [("library", True), ("package.pip.attrs", False), ("package.pip", False), ("package.pip.numpy", True)],
)
def test_what_could_not_be_seen_is_not_missing(unseen, known):
    text = f'[capture.unobserved]\n"{unseen}" = "no permission"\n' + pip(acme="1.0")
    assert bool(found("requirement-unmet", text + '[requires]\nacme = ["attrs>=20"]\n')) is known


@pytest.mark.parametrize(
    ("specifier", "version"),
    [
        ("", "1"),
        ("~=1.4.2", "1.4.2"),
        (">1.0", "1.0.1"),
        ("<2", "1.999"),
        ("<0.29.0", "0.28.999"),
        ("<=1.5", "1.5"),
        ("!=1.0", "1.0.1"),
        ("==1.*", "1"),
        ("===1.0", "1.0"),
        (">=1.18,<1.23", "1.18"),
        ("<0", None),
    ],
)
def test_a_version_that_lies_in_a_range(specifier, version):
    assert boundary(specifier) == version


@pytest.mark.parametrize(
    ("pydantic", "core", "known"),
    [
        ("2.11.2", "2.33.0", True),
        ("2.11.2", "2.33.1", False),
        ("2.11.1", "2.33.0", False),
        ("2.13.4", "2.46.3", True),
        ("2.13.4", "2.46.4", False),
    ],
)
def test_a_requirement_holds_from_the_release_that_states_it_first(pydantic, core, known):
    assert bool(found("requirement-unmet", pip(pydantic=pydantic, pydantic_core=core), "import")) is known


def test_the_requirement_after_next_does_not_hold_between_two_releases_that_were_read():
    # 0.1.25 was read to ask for >=0.2.40,<0.3 and 0.2.0 for >=0.3,<0.4.
    for core in ("0.2.41", "0.3.5"):
        assert found("requirement-unmet", pip(langchain_openai="0.1.26", langchain_core=core), "import") == []
    assert found("requirement-unmet", pip(langchain_openai="0.1.26", langchain_core="0.4.0"), "import")


def test_of_conda_packages_only_pairs_that_pip_mixed_are_held_to_their_releases():
    core = 'pydantic-core = { version = "2.37.2" }\n'
    conda = '[package.conda]\npydantic = { version = "2.11.7" }\n'
    assert found("requirement-unmet", conda + core, "import") == []
    assert only("requirement-unmet", conda + "[package.pip]\n" + core, "import").rank == 1
    # Another pair is judged after one that the solver knows.
    more = conda + core + pip(transformers="4.44.2", tokenizers="0.20.1")
    assert only("requirement-unmet", more, "import").subject == "package.pip.tokenizers"


def test_a_report_without_requirements_is_held_to_those_of_the_release():
    finding = only("requirement-unmet", pip(pydantic="2.11.7", pydantic_core="2.37.2"), "import")
    assert (finding.subject, finding.severity) == ("package.pip.pydantic-core", "warning")
    assert "pydantic-core==2.33.2" in finding.message
    assert finding.fixes[0].trial == {"package.pip.pydantic-core.version": "2.33.2"}
    assert found("requirement-unmet", pip(pydantic="2.11.7", pydantic_core="2.33.2"), "import") == []
    # "2.11" may be any release of its series, and what is newer than the matrix is not known.
    assert found("requirement-unmet", pip(pydantic="2.11", pydantic_core="2.33.1"), "import") == []
    assert found("requirement-unmet", pip(pydantic="2.999.0", pydantic_core="2.33.1"), "import") == []
    # A capture reads the packages' own metadata, and one that is recorded outranks the matrix.
    assert found("requirement-unmet", pip(pydantic="2.11.7", pydantic_core="2.37.2")) == []
    own = pip(pydantic="2.11.7", pydantic_core="2.37.2") + '[requires]\npydantic = ["pydantic-core"]\n'
    assert found("requirement-unmet", own, "import") == []


def test_between_two_releases_that_were_read_either_requirement_may_hold():
    assert only("requirement-unmet", pip(transformers="4.44.2", tokenizers="0.20.1"), "import")
    for tokenizers in ("0.19.1", "0.20.1"):
        assert found("requirement-unmet", pip(transformers="4.44.3", tokenizers=tokenizers), "import") == []


def test_a_package_of_unknown_version_may_require_more_than_is_there():
    text = '[package.pip]\ntransformers = {{}}\ntokenizers = {{ version = "{}" }}\n'
    finding = only("requirement-unmet", text.format("0.13.2"), "import")
    assert (finding.severity, finding.breaks) == ("note", False)
    assert "if it is 4.34.0 or newer" in finding.message
    assert found("requirement-unmet", text.format("0.23.1"), "import") == []
    assert found("requirement-unmet", text.format("99.0"), "import") == []


def test_conda_and_pip_over_one_another():
    text = '[package.pip]\nnumpy = {{ version = "{}" }}\n[package.conda]\nnumpy = {{ version = "2.1.0" }}\n'
    assert only("conda-pip-overlap", text.format("2.0.0")).severity == "warning"
    assert only("conda-pip-overlap", text.format("2.1.0")).severity == "note"


def test_conda_names_some_projects_otherwise():
    text = '[package.pip]\ntorch = {{ version = "2.5.1"{} }}\n[package.conda]\npytorch = {{ version = "2.4.0" }}\n'
    finding = only("conda-pip-overlap", text.format(""))
    assert finding.subject == "package.pip.torch"
    assert "pytorch 2.4.0" in finding.message
    assert [each.address for each in finding.evidence] == ["package.pip.torch", "package.conda.pytorch"]
    assert found("conda-pip-overlap", text.format(', installer = "conda"')) == []


def test_a_second_record_matters_if_it_is_of_another_version():
    text = '[package.pip]\nacme = {{ version = "38.0.4", duplicates = [{}] }}\n'
    finding = only("package-duplicated", text.format('"38.0.4", "37.0.1"'))
    assert (finding.subject, finding.severity) == ("package.pip.acme", "warning")
    assert "37.0.1" in finding.message
    assert len(finding.fixes) == 1
    # Debian ships an egg-info beside the dist-info.
    assert found("package-duplicated", text.format('"38.0.4"')) == []


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("package.pip.acme", "acme"),
        ("package.pip.acme.digest", "acme"),
        ("package.conda.python.app", "python.app"),
        ("package.conda.backports.zoneinfo.version", "backports.zoneinfo"),
    ],
)
def test_a_package_whose_records_cannot_be_read_is_named_right(address, name):
    finding = only("package-broken", f'[capture.unobserved]\n"{address}" = "no METADATA"\n')
    assert (finding.subject, finding.severity) == (address, "warning")
    assert finding.message == f"{name} is broken: no METADATA"


def test_tables_that_could_not_be_seen_are_no_broken_packages():
    assert (
        found("package-broken", '[capture.unobserved]\n"package.pip" = "no Python"\nlibrary = "no loader"\n')
        == []
    )


# ---- package-shadowed


def test_a_thin_report_is_pointed_to_the_user_site_that_it_states():
    text = '[python]\nversion = "3.8"\nuser_site = true\n[package.conda]\nnumpy = {}\n'
    finding = only("package-shadowed", text, "import")
    assert (finding.subject, finding.severity, finding.breaks) == ("python.user_site", "note", False)
    assert found("package-shadowed", text) == [], "a capture looks at what lies in the user site"
    assert found("package-shadowed", text.replace("true", "false"), "import") == []
    named = '[python]\npath = ["/home/me/.local/lib/python3.8/site-packages"]\n'
    assert only("package-shadowed", named, "import").subject == "python.path"
    hidden = (
        named
        + '[package.pip]\nnumpy = { version = "1.24.0", shadowed_by = "/home/me/.local/lib/python3.8" }\n'
    )
    assert only("package-shadowed", hidden, "import").subject == "package.pip.numpy"


def test_conda_holds_one_pytorch() -> None:
    stack = '[package.conda]\npytorch = { version = "0.4.1" }\npytorch-nightly = {}\n'
    assert only("module-overlap", stack).subject == "package.conda.pytorch-nightly"
    assert not found("module-overlap", stack.replace("pytorch-nightly", "torchvision"))


def test_a_row_about_one_release_says_nothing_of_an_unknown_one() -> None:
    windows = '[host]\nplatform = "windows"\n[package.pip]\ntorch = {}\n'
    assert not found("known-breakage", windows, "import")
    assert found("known-breakage", windows.replace("{}", '{ version = "2.4.0" }'), "import")


def test_pynvml_asks_older_drivers_for_functions_that_they_lack() -> None:
    stack = '[driver]\nversion = "525.85.12"\n[package.pip]\npynvml = { version = "11.5.0" }\n'
    assert found("known-breakage", stack)
    assert not found("known-breakage", stack.replace("525.85.12", "535.104.05"))
    assert not found("known-breakage", stack.replace("11.5.0", "11.4.1"))
