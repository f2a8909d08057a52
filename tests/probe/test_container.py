"""What contains this process, what an image asks of the driver, and which toolkit the host has."""

from pathlib import Path

import pytest

from envlock.probe.container import find_runtime, read_container, requirement
from tests.probe.support import write

ID = "3f4e8c1b2a5d" * 5 + "abcd"


@pytest.mark.parametrize(
    ("files", "environ", "runtime"),
    [
        ({"/.dockerenv": ""}, {}, "docker"),
        ({"/proc/self/cgroup": f"12:devices:/docker/{ID}\n"}, {}, "docker"),
        ({"/proc/self/cgroup": f"0::/system.slice/docker-{ID}.scope\n"}, {}, "docker"),
        ({"/run/.containerenv": 'engine="podman-4.9.3"\n'}, {}, "podman"),
        ({"/.dockerenv": "", "/proc/1/cgroup": f"0::/kubepods.slice/pods/cri-{ID}.scope\n"}, {}, "kubernetes"),
        ({"/proc/self/cgroup": "0::/\n"}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ({"/.singularity.d/Singularity": ""}, {}, "apptainer"),
        ({}, {"APPTAINER_CONTAINER": "/home/me/x.sif", "SINGULARITY_CONTAINER": "/home/me/x.sif"}, "apptainer"),
        ({}, {"SINGULARITY_NAME": "x.sif"}, "singularity"),
        ({"/proc/1/cgroup": "0::/lxc.payload.web/init.scope\n"}, {}, "lxc"),
        ({"/proc/self/cgroup": "0::/\n", "/proc/self/mountinfo":
          f"601 580 8:1 /var/lib/docker/containers/{ID}/hosts /etc/hosts rw - ext4 /dev/sda1 rw\n"}, {}, "docker"),
        ({"/proc/self/cgroup": "0::/user.slice/session-2.scope\n", "/proc/1/cgroup": "0::/init.scope\n"}, {}, None),
        ({"/proc/self/cgroup": "0::/system.slice/docker.service\n"}, {}, None),
        ({"/proc/self/cgroup": "0::/system.slice/docker-compose-web.service\n"}, {}, None),
        ({"/proc/self/mountinfo": "99 30 0:50 / /var/lib/docker/overlay2/x rw - overlay o rw\n"}, {}, None),
    ],
)  # fmt: skip
def test_the_runtime(
    tmp_path: Path, files: "dict[str, str]", environ: "dict[str, str]", runtime: "str | None"
) -> None:
    root = write(tmp_path, {**files}, **environ)
    assert find_runtime(root) == runtime
    assert ID not in str(read_container(root).facts)


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"NVIDIA_REQUIRE_CUDA": "cuda>=12.4 brand=tesla,driver<471"}, "cuda>=12.4 brand=tesla,driver<471"),
        ({"CUDA_VERSION": "9.0.176"}, "cuda>=9.0"),
        ({"CUDA_VERSION": "12.4.1", "NVIDIA_REQUIRE_CUDA": "cuda>=12.0"}, "cuda>=12.0"),
        ({"CUDA_VERSION": "12.4.1", "NVIDIA_REQUIRE_CUDA": ""}, None),
        ({"CUDA_VERSION": "12.4.1", "NVIDIA_DISABLE_REQUIRE": "true"}, None),
        ({"CUDA_VERSION": "12.4.1", "NVIDIA_DISABLE_REQUIRE": "yes"}, "cuda>=12.4"),
        ({"CUDA_VERSION": "latest"}, None),
        ({"NVIDIA_REQUIRE_JETPACK": "csv-mounts=all"}, None),
        ({"NVIDIA_REQUIRE_CUDA": "cuda>=12 driver>=525", "NVIDIA_REQUIRE_ARCH": "arch>=7.0"},
         "arch>=7.0,cuda>=12 arch>=7.0,driver>=525"),
        ({}, None),
    ],
)  # fmt: skip
def test_what_the_image_demands(environ: "dict[str, str]", text: "str | None") -> None:
    assert requirement(environ) == text


def test_many_demands_stay_bounded() -> None:
    hostile = {f"NVIDIA_REQUIRE_{name}": " ".join(f"cuda>={i}" for i in range(100)) for name in "ABCDEFGH"}
    assert len((requirement(hostile) or "").split()) <= 512


def test_a_legacy_image_sees_all_devices(tmp_path: Path) -> None:
    assert read_container(write(tmp_path, {}, CUDA_VERSION="9.0.176")).facts["container"] == {
        "require": "cuda>=9.0",
        "visible_devices": "all",
    }


def test_devices_are_counted_not_named(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {"/.dockerenv": ""},
        NVIDIA_VISIBLE_DEVICES="GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,GPU-0932f937-d72c-4106-c12f-20bd9faed9f6",
        NVIDIA_DRIVER_CAPABILITIES="compute,utility",
    )
    assert read_container(root).facts["container"] == {
        "runtime": "docker",
        "visible_devices": "GPU-***,GPU-***",
        "driver_capabilities": "compute,utility",
    }


def test_the_hosts_toolkit_from_its_package(tmp_path: Path) -> None:
    status = (
        "Package: adduser\nVersion: 3.1\n\n"
        "Package: nvidia-container-toolkit\nStatus: install ok installed\nVersion: 1.17.4-1\n\n"
    )
    root = write(tmp_path, {"/usr/bin/nvidia-ctk": "", "/var/lib/dpkg/status": status})
    assert read_container(root).facts["container"] == {"toolkit": "1.17.4"}


def test_a_bare_folder_says_nothing(tmp_path: Path) -> None:
    assert read_container(write(tmp_path, {})).facts == {}
