"""Which CUDA toolkits there are, their versions, and the active one."""

import json
from pathlib import Path

import pytest

from envlock.probe.toolkit import read_toolkits
from envlock.roots.folder import FolderRoot
from tests.probe.support import write

# As nvcc 12.4 prints it; the text lies in the program, and in bin2c and fatbinary beside it.
BANNER = b"\0Cuda compilation tools, release 12.4, V12.4.131\nBuild cuda_12.4.r12.4/compiler.34097967_0\0"


def versions(**parts: str) -> str:
    return json.dumps({name: {"name": name, "version": version} for name, version in parts.items()})


@pytest.mark.parametrize(
    ("files", "version"),
    [
        ({"version.json": versions(cuda="12.4.1", cuda_nvcc="12.4.131")}, "12.4.131"),
        ({"version.json": versions(cuda="12.2.20230823")}, "12.2"),
        ({"version.json": "[" * 100_000, "version.txt": "CUDA Version 10.2.89\n"}, "10.2.89"),
        ({"version.txt": "CUDA Version 11.0.228\n"}, "11.0.228"),
        ({"bin/nvcc": b"\x7fELF" + BANNER}, "12.4.131"),
        ({"bin/nvcc": b"\x7fELF", "bin/bin2c": BANNER}, "12.4.131"),
        ({"include/cuda.h": "/* */\n#define CUDA_VERSION 12090\n"}, "12.9"),
        ({"include/cuda_runtime_api.h": "#define CUDART_VERSION  13000\n"}, "13.0"),
    ],
)
def test_the_version_from_whatever_tells_it(
    tmp_path: Path, files: "dict[str, str | bytes]", version: str
) -> None:
    root = write(
        tmp_path,
        {"/usr/local/cuda-x/" + name: content for name, content in files.items()},
        CUDA_HOME="/usr/local/cuda-x",
    )
    assert read_toolkits(root).facts["toolkit"] == [
        {"path": "/usr/local/cuda-x", "active": True, "version": version}
    ]


def three(folder: Path, **environ: str) -> FolderRoot:
    root = write(
        folder,
        {
            "/usr/local/cuda-11.8/version.json": versions(cuda_nvcc="11.8.89"),
            "/usr/local/cuda-11.8/bin/nvcc": "",
            "/usr/local/cuda-12.4/version.json": versions(cuda_nvcc="12.4.131"),
            "/usr/local/cuda-12.4/bin/nvcc": "",
            "/opt/cuda/version.json": versions(cuda_nvcc="9.2.148"),
        },
        **environ,
    )
    (folder / "usr/local/cuda").symlink_to("/etc/alternatives/cuda")
    (folder / "etc/alternatives").mkdir(parents=True)
    (folder / "etc/alternatives/cuda").symlink_to("/usr/local/cuda-12.4")
    return root


@pytest.mark.parametrize(
    ("environ", "active"),
    [
        ({}, "/usr/local/cuda-12.4"),
        ({"CUDA_HOME": "/usr/local/cuda-11.8"}, "/usr/local/cuda-11.8"),
        ({"CUDA_HOME": "/usr/local/cuda-11.8", "CUDA_PATH": "/opt/cuda"}, "/usr/local/cuda-11.8"),
        ({"CUDA_PATH": "/opt/cuda"}, "/opt/cuda"),
        ({"PATH": "/usr/bin:/usr/local/cuda-11.8/bin"}, "/usr/local/cuda-11.8"),
        ({"CUDA_HOME": "/usr/local/cuda", "PATH": "/usr/local/cuda-11.8/bin"}, "/usr/local/cuda-12.4"),
        ({"CUDA_HOME": "/nowhere"}, None),
    ],
)
def test_one_toolkit_is_active(tmp_path: Path, environ: "dict[str, str]", active: "str | None") -> None:
    toolkits = read_toolkits(three(tmp_path, **environ)).facts["toolkit"]
    assert [toolkit["path"] for toolkit in toolkits] == [
        "/opt/cuda",
        "/usr/local/cuda-11.8",
        "/usr/local/cuda-12.4",
    ]
    assert [toolkit["path"] for toolkit in toolkits if toolkit["active"]] == ([active] if active else [])


def test_a_script_in_nvccs_place_leads_to_the_real_one(tmp_path: Path) -> None:
    script = '#!/bin/sh\nexec /usr/lib/nvidia-cuda-toolkit/bin/nvcc "$@"\n'
    root = write(tmp_path, {"/usr/bin/nvcc": script, "/usr/lib/nvidia-cuda-toolkit/bin/nvcc": BANNER})
    assert read_toolkits(root).facts["toolkit"] == [
        {"path": "/usr/lib/nvidia-cuda-toolkit", "active": True, "version": "12.4.131"}
    ]


def test_a_runtime_images_folder_is_no_toolkit(tmp_path: Path) -> None:
    assert read_toolkits(write(tmp_path, {"/usr/local/cuda-12.4/lib64/libcudart.so.12": ""})).facts == {}


def test_a_toolkit_without_a_version_is_kept_and_said(tmp_path: Path) -> None:
    seen = read_toolkits(write(tmp_path, {"/opt/cuda/include/cuda.h": "no version here"}))
    assert seen.facts["toolkit"] == [{"path": "/opt/cuda", "active": False}]
    assert seen.unobserved == {"toolkit.version": "/opt/cuda tells no version"}
