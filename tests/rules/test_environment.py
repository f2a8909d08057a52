"""Rules about variables and limits: each condition met, and nearly met."""

import pytest

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
