"""Each reader with inputs changed blindly for as long as one likes: ``pytest -m fuzz``, ENVLOCK_FUZZ_SECONDS for each (600)."""

import datetime
import os
import subprocess
import sys

import pytest

from tests.fuzz.corpus import FOLDER
from tests.fuzz.readers import READERS

pytestmark = pytest.mark.fuzz


@pytest.mark.parametrize("name", READERS)
def test_reader_for_long(name):
    seconds = os.environ.get("ENVLOCK_FUZZ_SECONDS", "600")
    seed = str(datetime.datetime.now(datetime.timezone.utc).toordinal())  # other inputs every day
    command = [sys.executable, "-m", "tests.fuzz", "--by-chance", "--seconds", seconds, "--seed", seed, name]
    done = subprocess.run(
        command, cwd=FOLDER.parent.parent.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
