"""Rules about variables and limits: each condition met, and nearly met."""

import pytest

from envlock.rules.environment import interface_in_use
from tests.rules.support import found, only


def environ(text, rest=""):
    return f"{rest}\n[environ]\n{text}\n"


@pytest.mark.parametrize(
    ("value", "rest", "severity"),
    [
        (":/usr/local/cuda-12.4", "", "error"),
        ("/usr/local/cuda-11.8:/usr/local/cuda-12.4", "", "error"),
        ("/usr/local/cuda-12.4/bin", "", "error"),
        ("/usr/local/cuda", "", "warning"),
        ("/usr/local/cuda", '[[toolkit]]\nversion = "12.4"\npath = "/usr/local/cuda-12.4"', None),
        ("C:\\\\CUDA\\\\v12.4", '[host]\nplatform = "windows"\n[[toolkit]]\nversion = "12.4"', None),
    ],
)
def test_a_cuda_home_has_to_be_the_folder_of_one_toolkit(value, rest, severity):
    findings = found("environment-suspect", environ(f'CUDA_HOME = "{value}"', rest))
    assert [finding.severity for finding in findings] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        ("eth0", True),
        ("eth", True),
        ("=eth", False),
        ("ens5,eth0", True),
        ("ens5", False),
        ("^docker,lo", True),
    ],
)
def test_nccl_matches_interfaces_by_prefix_unless_told_otherwise(value, fits):
    text = environ(f'NCCL_SOCKET_IFNAME = "{value}"', '[host]\ninterfaces = ["eth0", "lo"]')
    findings = found("environment-suspect", text)
    assert [finding.severity for finding in findings] == ([] if fits else ["error"])
    assert found("environment-suspect", environ(f'NCCL_SOCKET_IFNAME = "{value}"')) == []


def test_libraries_of_another_torch_on_the_search_path():
    text = environ('LD_LIBRARY_PATH = "/opt/libtorch/lib"', '[framework.torch]\nversion = "2.4.0"')
    finding = only("environment-suspect", text)
    assert (finding.subject, finding.severity) == ("environ.LD_LIBRARY_PATH", "error")
    assert finding.fixes[0].trial == {"environ.LD_LIBRARY_PATH": None}
    own = environ(
        'LD_LIBRARY_PATH = "/venv/lib/python3.11/site-packages/torch/lib"',
        '[python]\nprefix = "/venv"\n[framework.torch]\nversion = "2.4.0"',
    )
    assert found("environment-suspect", own) == []


def test_the_libraries_of_another_conda_environment():
    text = 'LD_LIBRARY_PATH = "/home/me/miniconda3/envs/{}/lib"'
    prefix = '[python]\nprefix = "/home/me/miniconda3/envs/train"'
    assert only("environment-suspect", environ(text.format("old"), prefix)).severity == "warning"
    assert found("environment-suspect", environ(text.format("train"), prefix)) == []


def test_a_search_path_over_condas_libraries():
    text = environ('LD_LIBRARY_PATH = "/opt/qt/lib"', "[package.conda]\nqt = {}\n")
    finding = only("environment-suspect", text, "import")
    assert (finding.subject, finding.severity) == ("environ.LD_LIBRARY_PATH", "note")
    assert found("environment-suspect", text) == [], "a capture knows what each program loads"
    assert found("environment-suspect", environ('LD_LIBRARY_PATH = "/opt/qt/lib"'), "import") == []


@pytest.mark.parametrize("name", ["DYLD_LIBRARY_PATH", "GDAL_DATA", "PROJ_LIB"])
def test_variables_that_lead_to_another_installation(name):
    finding = only("environment-suspect", environ(f'{name} = "/usr/share/other"'), "import")
    assert (finding.subject, finding.severity) == (f"environ.{name}", "note")
    assert found("environment-suspect", environ(f'{name} = ""'), "import") == []


def test_a_pythonpath_into_another_python():
    value = 'PYTHONPATH = "/opt/app/lib/python2.7/site-packages"'
    finding = only("environment-suspect", environ(value, '[python]\nversion = "3.11.4"'))
    assert (finding.subject, finding.severity) == ("environ.PYTHONPATH", "error")
    assert "2.7" in finding.message
    source = only(
        "environment-suspect", environ('PYTHONPATH = "/workspace/src"', '[python]\nversion = "3.11.4"')
    )
    assert source.severity == "note"


@pytest.mark.parametrize(
    ("direct", "severity"), [("", "warning"), ("internal.example", "warning"), ("localhost,127.0.0.1", None)]
)
def test_a_proxy_takes_requests_to_the_machine_itself(direct, severity):
    text = environ(
        f'http_proxy = "http://proxy:3128"\nno_proxy = "{direct}"',
        '[package.pip]\ngradio = { version = "4.44.0" }',
    )
    assert [finding.severity for finding in found("environment-suspect", text)] == (
        [severity] if severity else []
    )


def test_of_several_rows_the_one_that_reads_the_value_is_told():
    finding = only("environment-suspect", environ('LD_PRELOAD = "/usr/lib/libjemalloc.so.2"'))
    assert "allocator" in finding.message
    assert found("environment-suspect", environ('LD_PRELOAD = ""\nLANG = "C.UTF-8"')) == []


def test_protobufs_cpp_parser_is_not_in_newer_wheels():
    text = 'PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION = "cpp"'
    packages = '[package.pip]\nprotobuf = {{ version = "{}" }}'
    assert only("environment-suspect", environ(text, packages.format("4.25.3"))).severity == "warning"
    assert found("environment-suspect", environ(text, packages.format("3.20.3"))) == []


TORCH = '[framework.torch]\nversion = "2.4.0"\n'
SITE = "/venv/lib/python3.11/site-packages"


def pip(*names):
    return "[package.pip]\n" + "".join(f'{name} = {{ version = "2.16.1" }}\n' for name in names)


@pytest.mark.parametrize(
    ("variable", "rest", "told"),
    [
        # Another torch's libraries on the search path: this environment's own, another environment's, and none's.
        ("LD_LIBRARY_PATH=/opt/libtorch/lib", "", None),
        ("LD_LIBRARY_PATH=/opt/libtorch/lib", pip("torch"), "error (/opt/libtorch/lib)"),
        (f"LD_LIBRARY_PATH={SITE}/torch/lib", TORCH, f"note ({SITE}/torch/lib)"),
        (f"LD_LIBRARY_PATH={SITE}/torch/lib", f'{TORCH}[python]\nprefix = "/venv/"', None),
        (f"LD_LIBRARY_PATH={SITE}/torch/lib", f'{TORCH}[python]\nprefix = "/other"', f"warning ({SITE}/torch/lib)"),
        (f"LD_LIBRARY_PATH={SITE}/torch/lib", f'{TORCH}[python]\nprefix = "/ven"', f"warning ({SITE}/torch/lib)"),
        ("LD_LIBRARY_PATH=/opt/a", '[[library]]\nname = "libtorch"\npath = "/opt/a/libtorch.so"', "error (/opt/a)"),
        ("LD_LIBRARY_PATH=/opt/b", '[[library]]\nname = "libtorch"\npath = "/opt/a/libtorch.so"', None),
        ("LD_LIBRARY_PATH=/", '[[library]]\nname = "libtorch"', None),
        (f"LD_LIBRARY_PATH={SITE}", f'[[library]]\nname = "libtorch"\npath = "{SITE}/libtorch.so"', None),
        ("LD_LIBRARY_PATH=/opt/conda/envs/a/lib", "", "note (/opt/conda/envs/a/lib)"),
        ("LD_LIBRARY_PATH=/envs/a/lib", '[python]\nprefix = "/envs/b"', "warning (/envs/a/lib)"),
        ("CUDA_HOME=C:/CUDA;D:/CUDA", "", "error (a list of folders, not one)"),
        ("CUDA_HOME=D:/CUDA", '[[toolkit]]\nversion = "12.4"', None),
        ("CUDA_HOME=a;b", '[host]\nplatform = "windows"', "error (a list of folders, not one)"),
        ("CUDA_HOME=/a:/b:", "", "error (a list of folders, not one)"),
        ("CUDA_HOME=/a:", "", "error (a stray colon)"),
        ("CUDA_HOME=/usr/local/cuda", "", "warning (no toolkit was found there)"),
        ("CUDA_HOME=/usr/local/cuda", '[capture.unobserved]\ntoolkit = "no access"', None),
        ("CUDA_HOME=", "", "warning (empty, or with blanks around it)"),
        ("GLOO_SOCKET_IFNAME=eth0", '[host]\ninterfaces = ["eth0"]', None),
        ("GLOO_SOCKET_IFNAME=eth0", "[host]\ninterfaces = []", "error (this host has none)"),
        ("PYTHONPATH=/a", "", "note (its folders come before site-packages)"),
        ("PYTHONPATH=/a/site-packages", "", "warning (its folders come before site-packages)"),
        ("PYTHONPATH= ", "", None),
        ("PYTHONPATH=/a/lib/python3.11/dist-packages", '[python]\nversion = "3.11.4"',
         "warning (its folders come before site-packages)"),
        ("PYTHONPATH=/a/python3.9/site-packages:/a/python3.10/site-packages", '[python]\nversion = "3.10"',
         "error (packages of Python 3.9)"),
        ("PYTHONPATH=/a/python3.9/site-packages", "", "warning (its folders come before site-packages)"),
        ("PYTHONHOME=/usr", "", "warning"),
        ("PYTHONHOME= ", "", None),
        ("PYTHONHOME=/usr", '[python]\nprefix = "/usr/"', None),
        ("http_proxy=http://p:1", "", "note (no_proxy lacks localhost)"),
        ("HTTP_PROXY=http://p:1", pip("ray"), "warning (no_proxy lacks localhost)"),
        ("https_proxy=http://p:1", pip("streamlit"), "warning (no_proxy lacks localhost)"),
        ("https_proxy=http://p:1", pip("jupyter-server"), "warning (no_proxy lacks localhost)"),
        ("http_proxy=http://p:1\nno_proxy=*", pip("ray"), None),
        ("http_proxy=http://p:1\nNO_PROXY=a, localhost", pip("ray"), None),
        ("http_proxy= ", pip("ray"), None),
        ("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=cpp", "", None),
        ("TF_USE_LEGACY_KERAS=1", pip("tensorflow", "tf-keras"), None),
        ("TF_USE_LEGACY_KERAS=0", pip("tensorflow"), None),
        ("TF_USE_LEGACY_KERAS=1", pip("tensorflow") + '[capture.unobserved]\n"package.pip" = "cut"',
         "note (tf-keras is not installed)"),
        ("KERAS_BACKEND=torch", pip("keras"), "warning (torch is not installed)"),
        ("KERAS_BACKEND= TensorFlow", pip("keras"), "warning (tensorflow is not installed)"),
        ("KERAS_BACKEND=tensorflow", pip("keras", "tensorflow-cpu"), None),
        ("KERAS_BACKEND=tensorflow", pip("keras", "tensorflow-gpu"), None),
        ("KERAS_BACKEND=openvino", pip("keras"), None),
        ("KERAS_BACKEND=jax", "", None),
        ("HF_HUB_ENABLE_HF_TRANSFER=1", "", None),
        ("HF_HUB_ENABLE_HF_TRANSFER=1", pip("huggingface-hub", "hf-transfer"), None),
        ("HF_HUB_ENABLE_HF_TRANSFER=1", pip("huggingface-hub") + '[capture.unobserved]\n"package.pip" = "cut"', None),
        ("JAX_PLATFORMS=cpu", "", None),
        ("JAX_PLATFORMS=cpu", '[[gpu]]\nname = "NVIDIA L4"', "warning"),
        ("JAX_PLATFORM_NAME=cpu", '[[gpu]]\nname = "NVIDIA L4"', "warning"),
        ("XLA_FLAGS=--xla_gpu_cuda_data_dir=/a", "", None),
        ("XLA_FLAGS=--xla_gpu_cuda_data_dir=/usr/local/cuda/", '[[toolkit]]\npath = "/opt/cuda"', None),
        ("XLA_FLAGS=--xla_gpu_cuda_data_dir=/a", '[[toolkit]]\npath = "/b"\n[[toolkit]]\npath = "/c"',
         "note (the toolkits are in /b, /c)"),
        ("XLA_FLAGS=--xla_gpu_cuda_data_dir=/a",
         '[[toolkit]]\npath = "/b"\n[capture.unobserved]\ntoolkit = "some folders"', None),
        ("LD_PRELOAD=/a.so", "", "warning"),
        ("LD_PRELOAD= ", "", None),
    ],
)  # fmt: skip
def test_what_is_told_of_a_variable(variable, rest, told):
    variables = [each.partition("=") for each in variable.split("\n")]
    findings = found(
        "environment-suspect", environ("\n".join(f'{name} = "{value}"' for name, _, value in variables), rest)
    )
    name, _, value = variables[0]
    said = [
        f"{each.severity}{each.message.removeprefix(f'{name}={value}').partition(': ')[0]}"
        for each in findings
    ]
    assert said == ([told] if told else [])
    assert [each.subject for each in findings] == [f"environ.{name}"] * len(findings)


@pytest.mark.parametrize(
    ("variable", "rest", "told"),
    [
        ('LD_LIBRARY_PATH = "/a:/opt/hpcx/lib/"', pip("jaxlib"), "note"),
        ('LD_LIBRARY_PATH = "/usr/lib/CUDA"', pip("tensorflow"), "note"),
        ('LD_LIBRARY_PATH = "/opt/hpcx/lib"', pip("numpy"), None),
        ('LD_LIBRARY_PATH = "/opt/mpi/lib"', pip("torch"), None),
        (
            'LD_LIBRARY_PATH = "/opt/nccl"',
            pip("torch") + '[[library]]\nname = "nccl"\nused_by = ["torch"]',
            None,
        ),
        ('PYTHONPATH = "/a"', "", "warning"),
        ('PYTHONPATH = "/a"', pip("numpy"), "note"),
        ('http_proxy = "http://p:1"', "", "warning"),
        ('http_proxy = "http://p:1"', pip("numpy"), "note"),
        ('TF_USE_LEGACY_KERAS = "1"', pip("tensorflow"), "note"),
        ('KERAS_BACKEND = "jax"', pip("keras"), None),
        ('HF_HUB_ENABLE_HF_TRANSFER = "1"', pip("huggingface-hub"), None),
        ('XLA_FLAGS = "--xla_gpu_cuda_data_dir=/a"', '[[toolkit]]\npath = "/b"', None),
        ('CUDA_HOME = "/usr/local/cuda"', "", None),
    ],
)
def test_what_is_told_of_a_variable_in_a_paste(variable, rest, told):
    findings = found("environment-suspect", environ(variable, rest), "import")
    assert [each.severity for each in findings] == ([told] if told else [])


def test_evidence_is_what_a_condition_rests_on():
    def evidence(variable, rest):
        return [
            (each.address, each.value)
            for each in only("environment-suspect", environ(variable, rest)).evidence[1:]
        ]

    assert evidence('PYTHONPATH = "/a"', '[python]\npath = ["/a", "/b"]') == [("python.path", ["/a", "/b"])]
    assert evidence('CUDA_HOME = "/a"', "") == [("toolkit", None)]
    assert evidence('JAX_PLATFORMS = "cpu"', '[[gpu]]\nname = "NVIDIA L4"') == [("gpu", ["NVIDIA L4"])]


def test_a_setting_of_rare_harm_is_a_quiet_note():
    finding = only("environment-suspect", environ('NCCL_P2P_DISABLE = "1"'))
    assert (finding.severity, finding.quiet, finding.rank) == ("note", True, 5)
    assert not only("environment-suspect", environ('LD_PRELOAD = "/a.so"')).quiet


def test_a_long_value_is_cut_in_the_sentence_and_whole_in_the_evidence():
    for length, shown in ((120, "/" + "a" * 119), (121, "/" + "a" * 116 + "...")):
        finding = only("environment-suspect", environ(f'LD_PRELOAD = "/{"a" * (length - 1)}"'))
        assert finding.message.startswith(f"LD_PRELOAD={shown}: ")
        assert finding.evidence[0].value == "/" + "a" * (length - 1)


@pytest.mark.parametrize(
    ("environ", "interfaces", "used"),
    [
        ({"NCCL_SOCKET_IFNAME": "eth"}, None, None),
        ({}, ["eth0"], None),
        ({"NCCL_SOCKET_IFNAME": ""}, ["eth0"], None),
        ({"NCCL_SOCKET_IFNAME": "^lo"}, ["eth0"], None),
        ({"NCCL_SOCKET_IFNAME": "eth"}, ["lo", "eth1", "eth0"], "eth0"),
        ({"NCCL_SOCKET_IFNAME": "eth1:2"}, ["eth0", "eth1"], "eth1"),
        ({"NCCL_SOCKET_IFNAME": "=eth1, ,eth2"}, ["eth1", "eth10"], "eth1"),
        ({"NCCL_SOCKET_IFNAME": "=eth"}, ["eth0"], ""),
        ({"GLOO_SOCKET_IFNAME": "eth0"}, ["eth0"], "eth0"),
        ({"GLOO_SOCKET_IFNAME": "eth"}, ["eth0"], ""),
        ({"GLOO_SOCKET_IFNAME": "eth1", "NCCL_SOCKET_IFNAME": "eth0"}, ["eth0", "eth1"], "eth0"),
        ({"GLOO_SOCKET_IFNAME": "eth1", "NCCL_SOCKET_IFNAME": "ib"}, ["eth0", "eth1"], ""),
    ],
)
def test_the_interface_that_a_job_is_told_to_use(environ, interfaces, used):
    assert interface_in_use(environ, interfaces) == used


@pytest.mark.parametrize(
    ("size", "rest", "said"),
    [
        (0.0625, "", None),
        (0.0625, pip("torch"), "64 MiB"),
        (0.0625, pip("jax"), "64 MiB"),
        (0.0625, pip("tensorflow"), "64 MiB"),
        (0.0625, '[[gpu]]\nname = "NVIDIA L4"', "64 MiB"),
        (0.07, TORCH, None),
        (0.5, TORCH + '[container]\nimage = "a"', "512 MiB"),
        (0.999, TORCH + '[container]\nruntime = "podman"', "1023 MiB"),
        (1, TORCH + '[container]\nruntime = "podman"', None),
    ],
)
def test_shared_memory_is_small_by_default_and_in_containers(size, rest, said):
    messages = [each.message for each in found("shared-memory-small", f"[host]\nshm_gib = {size}\n{rest}")]
    assert messages == (
        [f"shared memory (/dev/shm) has {said}: data loader workers and NCCL need more"] if said else []
    )


def test_a_paste_that_states_little_shared_memory_needs_no_framework():
    assert found("shared-memory-small", "[host]\nshm_gib = 0.0625\n", "import")


@pytest.mark.parametrize(
    ("kib", "rest", "evidence"),
    [
        (0, 'rdma = "MLNX_OFED 24.10"', {"host.rdma": "MLNX_OFED 24.10"}),
        (1048575, 'interfaces = ["eth0", "ib0", "ibs1"]', {"host.interfaces": ["ib0", "ibs1"]}),
        (1048576, 'interfaces = ["ib0"]', None),
        (64, '[environ]\nNCCL_IB_HCA = "mlx5_0"', {"environ.NCCL_IB_HCA": "mlx5_0"}),
        (64, '[environ]\nNCCL_NET_GDR_LEVEL = "PHB"', {"environ.NCCL_NET_GDR_LEVEL": "PHB"}),
        (64, '[environ]\nUCX_NET_DEVICES = "mlx5_0:1"', {"environ.UCX_NET_DEVICES": "mlx5_0:1"}),
        (64, '[environ]\nNCCL_IB_HCA = "mlx5_0"\nNCCL_IB_DISABLE = "0"', {"environ.NCCL_IB_HCA": "mlx5_0"}),
        (64, '[environ]\nNCCL_IB_HCA = "mlx5_0"\nNCCL_IB_DISABLE = "1"', None),
        (64, '[environ]\nNCCL_IB_HCA = ""', None),
        (64, "", None),
    ],
)
def test_a_small_memory_lock_is_told_with_what_needs_more(kib, rest, evidence):
    findings = found("memory-lock-small", f"[host]\nmemlock_kib = {kib}\n{rest}\n")
    assert [{each.address: each.value for each in finding.evidence} for finding in findings] == (
        [{"host.memlock_kib": kib, **evidence}] if evidence else []
    )
    (why,) = [evidence[address] for address in evidence] if evidence else [None]
    shown = (
        ", ".join(why)
        if isinstance(why, list)
        else next(iter(evidence or {}), "").partition("environ.")[2] or why
    )
    assert [each.message for each in findings] == (
        [f"RLIMIT_MEMLOCK is {kib} KiB, and RDMA is there ({shown}), which needs it unlimited"]
        if evidence
        else []
    )


def test_dockers_default_shared_memory():
    text = '[host]\nshm_gib = {}\n[container]\nruntime = "docker"\n[framework.torch]\nversion = "2.4.0"\n'
    finding = only("shared-memory-small", text.format(0.0625))
    assert finding.subject == "host.shm_gib"
    assert "64 MiB" in finding.message
    assert finding.fixes
    assert found("shared-memory-small", text.format(8)) == []
    assert found("shared-memory-small", '[host]\nshm_gib = 0.0625\n[container]\nruntime = "docker"\n') == []


def test_locked_memory_matters_where_rdma_is():
    text = '[host]\nmemlock_kib = {}\ninterfaces = ["{}"]\n'
    finding = only("memory-lock-small", text.format(8192, "ib0"))
    assert finding.subject == "host.memlock_kib"
    assert "8192" in finding.message
    assert found("memory-lock-small", text.format(-1, "ib0")) == []
    assert found("memory-lock-small", text.format(8192, "eth0")) == []


def test_rdma_core_alone_is_no_adapter() -> None:
    stack = '[host]\nmemlock_kib = 8192\nrdma = "{}"\ninterfaces = ["{}"]\n'
    assert not found("memory-lock-small", stack.format("rdma-core 44.0", "eth0"))
    assert found("memory-lock-small", stack.format("rdma-core 44.0", "ib0"))
    assert found("memory-lock-small", stack.format("MLNX_OFED 24.10", "eth0"))


def test_a_paste_that_states_a_small_memory_lock_does_so_for_a_reason() -> None:
    stack = "[host]\nmemlock_kib = {}\n"
    assert found("memory-lock-small", stack.format(64), "import")
    assert not found("memory-lock-small", stack.format(64))
    assert not found("memory-lock-small", stack.format(-1), "import")


def test_a_thin_report_is_pointed_to_a_variable_that_leads_elsewhere():
    text = environ('QT_PLUGIN_PATH = "/opt/other/plugins"', "[package.pip]\nacme = {}")
    finding = only("environment-suspect", text, "import")
    assert (finding.subject, finding.severity, finding.breaks) == ("environ.QT_PLUGIN_PATH", "note", False)
    assert found("environment-suspect", text) == []
    for harmless in (
        'QT_PLUGIN_PATH = ""',
        'HF_HOME = "/data/hf"',
        'ACME_LEVEL = "3"',
        'XDG_DATA_HOME = "/x"',
    ):
        assert found("environment-suspect", environ(harmless), "import") == [], harmless


def test_a_pasted_interface_is_worth_a_look_where_the_hosts_own_are_not_stated() -> None:
    stack = '[environ]\nNCCL_SOCKET_IFNAME = "eth0"\n'
    finding = only("environment-suspect", stack, "import")
    assert (finding.severity, finding.quiet) == ("note", True)
    assert not found("environment-suspect", stack)
    assert not found("environment-suspect", '[host]\ninterfaces = ["eth0"]\n' + stack, "import")


def test_a_pasted_cuda_home_names_one_of_the_toolkits_of_the_report() -> None:
    stack = '[[toolkit]]\nversion = "12.1"\npath = "/usr/local/cuda-12.1"\n[environ]\nCUDA_HOME = "{}"\n'
    finding = only("environment-suspect", stack.format("/usr/local/cuda-11.3"), "import")
    assert (finding.subject, finding.severity, finding.quiet) == ("environ.CUDA_HOME", "note", True)
    for home in ("/usr/local/cuda-12.1", "/usr/local/cuda-12.1/", "/usr/local/cuda"):
        assert not found("environment-suspect", stack.format(home), "import")
    assert not found("environment-suspect", stack.format("/usr/local/cuda-11.3"))


def test_a_pasted_rdma_adapter_is_worth_a_look() -> None:
    assert only("environment-suspect", '[environ]\nNCCL_IB_HCA = "mlx5_0"\n', "import").quiet
    assert not found("environment-suspect", '[environ]\nNCCL_IB_HCA = "mlx5_0"\n')
