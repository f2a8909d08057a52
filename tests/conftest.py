"""What several test modules share because it is dear to make."""

import signal
import subprocess

import pytest

from tests.packages_support import pip, virtualenv


@pytest.fixture(scope="session")
def cpu_torch(tmp_path_factory):
    """A virtual environment with the CPU wheel of torch and numpy; nothing may be installed into it."""
    prefix = virtualenv(tmp_path_factory.mktemp("cpu-torch") / "venv")
    try:
        # Compiled: where PYTHONDONTWRITEBYTECODE is set, every rank of every job would compile torch anew.
        pip(prefix, "install", "-q", "torch==2.13.0", "numpy")
    except subprocess.CalledProcessError:
        pytest.skip("torch 2.13.0 cannot be installed here")
    return prefix


def pytest_sessionstart():
    """Heed Ctrl-C: a job in the background ignores it, and so would every command that a test starts and interrupts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
