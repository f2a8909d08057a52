"""Which variables are recorded, and how secrets in them are masked."""

from pathlib import Path

import pytest

from envlock.probe.environ import is_recorded, read_environ
from envlock.roots.folder import FolderRoot
from envlock.roots.live import LiveRoot


def environ(**variables: str) -> "dict[str, str]":
    seen = read_environ(LiveRoot(variables))
    facts = seen.facts["environ"]
    assert isinstance(facts, dict)
    return facts


@pytest.mark.parametrize(
    "name",
    ["LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH", "PYTHONNOUSERSITE", "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "NCCL_SOCKET_IFNAME",
     "NCCL_IB_HCA", "TORCH_CUDA_ARCH_LIST", "PYTORCH_CUDA_ALLOC_CONF", "XLA_FLAGS", "TF_ENABLE_ONEDNN_OPTS", "OMP_NUM_THREADS",
     "http_proxy", "no_proxy", "HTTPS_PROXY", "CC", "LANG", "VIRTUAL_ENV", "CONDA_PREFIX", "OMPI_MCA_btl", "HF_HOME", "UCX_TLS"],
)  # fmt: skip
def test_what_changes_behaviour_is_recorded(name: str) -> None:
    assert is_recorded(name)


@pytest.mark.parametrize(
    "name",
    ["RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "SLURM_JOB_ID", "OMPI_COMM_WORLD_RANK", "NCCL_COMM_ID",
     "OMPI_MCA_orte_hnp_uri", "OMPI_MCA_ess_base_jobid", "TORCHELASTIC_RUN_ID", "RAY_ADDRESS", "RAY_JOB_ID", "TF_CONFIG",
     "HOME", "USER", "HOSTNAME", "PATH", "PWD", "SSH_CONNECTION", "AWS_SECRET_ACCESS_KEY", "PADDLE_TRAINER_ID",
     "VLLM_HOST_IP_PORT", "PYTHON BAD", ""],
)  # fmt: skip
def test_noise_names_and_strangers_are_not(name: str) -> None:
    assert not is_recorded(name)


def test_secrets_and_people_are_masked() -> None:
    assert environ(
        HOME="/home/me",
        HF_TOKEN="hf_abcdefghijklmnopqrstuvwxyz",
        HF_HOME="/home/me/.cache/huggingface",
        LD_LIBRARY_PATH="/home/me/lib:/usr/local/cuda/lib64:/home/media/lib",
        https_proxy="http://me:secret@proxy:3128",
        CUDA_VISIBLE_DEVICES="GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
        VLLM_API_KEY="abc",
        USER="me",
    ) == {
        "CUDA_VISIBLE_DEVICES": "GPU-***",
        "HF_HOME": "~/.cache/huggingface",
        "HF_TOKEN": "***",
        "LD_LIBRARY_PATH": "~/lib:/usr/local/cuda/lib64:/home/media/lib",
        "VLLM_API_KEY": "***",
        "https_proxy": "http://***@proxy:3128",
    }


def test_values_are_recorded_in_order_of_name_whatever_they_hold() -> None:
    found = environ(XLA_FLAGS="--x\n\udcff", CUDA_HOME="", NCCL_DEBUG="x" * 100_000)
    assert list(found) == ["CUDA_HOME", "NCCL_DEBUG", "XLA_FLAGS"]
    assert found["CUDA_HOME"] == ""
    assert len(found["NCCL_DEBUG"]) == 8192
    found["XLA_FLAGS"].encode("utf-8")


def test_a_folder_has_no_environment(tmp_path: Path) -> None:
    seen = read_environ(FolderRoot(str(tmp_path)))
    assert seen.facts == {}
    assert "environ" in seen.unobserved
