"""Ranks over torch's own store: the odd one is named on all of them, and one that fails keeps none waiting for long."""

import json

import pytest

from tests.fleet.job_support import GOOD, OLD, Ranks, driver_double, job_prefix, needs_gcc

pytestmark = needs_gcc()

SAY = """
import json
def said(outcome): print("SAID", json.dumps([outcome.verdict, outcome.message, outcome.observers]))
"""
CALL = "import envlock\n" + SAY + "said(envlock.preflight(timeout={limit}))\n"
WAIT = CALL.format(limit=40)
SHORT = CALL.format(limit=4)


@pytest.fixture(scope="module")
def ranks(cpu_torch, tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    started = Ranks(job_prefix(folder / "venv", cpu_torch), driver_double(folder / "driver"))
    yield started
    started.close()


def said(result):
    """Return what the rank's preflight returned."""
    assert result["exit"] == 0, result["out"]
    line = next(line for line in result["out"].splitlines() if line.startswith("SAID "))
    return json.loads(line[5:])


def error(result, name):
    """Return the text of the error that ended the rank."""
    assert result["exit"] == 1, result["out"]
    found = result["out"].partition(f"envlock.fleet.preflight.{name}: ")
    assert found[1], result["out"]
    return found[2].strip()


def apart(number, base=GOOD):
    """Return variables that make a rank a place of its own, with an equal stack."""
    return {**base, "UNRELATED": str(number)}


def test_equal_ranks_of_one_node_are_fine_and_one_of_them_captures(ranks):
    results = ranks.run([WAIT] * 4, [GOOD] * 4)
    assert [said(each) for each in results] == [["fine", "", [0]]] * 4


def test_equal_places_capture_each_and_are_fine(ranks):
    legitimate = [
        {"CUDA_VISIBLE_DEVICES": str(n), "NCCL_SOCKET_IFNAME": f"eth{n}", "NCCL_DEBUG": "INFO"[: 4 * n],
         "OMPI_COMM_WORLD_RANK": str(n), "TORCHINDUCTOR_CACHE_DIR": f"/tmp/{n}", "TZ": "UTC"[: 3 * n], **apart(n)}
        for n in range(2)
    ]  # fmt: skip
    results = ranks.run([WAIT] * 2, legitimate)
    assert [said(each) for each in results] == [["fine", "", [0, 1]]] * 2


def test_the_odd_rank_is_named_first_with_the_cause_and_all_ranks_say_the_same(ranks):
    places = [apart(0), apart(1), OLD, apart(3)]
    messages = [error(each, "StacksDifferError") for each in ranks.run([WAIT] * 4, places)]
    assert len(set(messages)) == 1
    headline, rest = messages[0].split("\n", 1)
    assert headline.startswith("the stacks of this job differ: rank 2 on ")
    assert "differs from the 3 other ranks: driver.version 470.256.02 instead of 580.95.05" in headline
    assert "(the majority, 3 of 4 ranks)" in rest
    assert "[driver-too-old-for-gpu]" in rest and "driver.version" in rest


def test_one_variable_that_must_agree_is_a_difference(ranks):
    results = ranks.run([WAIT] * 2, [{**GOOD, "NCCL_ALGO": "Ring"}, {**GOOD, "NCCL_ALGO": "Tree"}])
    for each in results:
        assert "environ.NCCL_ALGO" in error(each, "StacksDifferError").split("\n")[0]


def test_what_one_rank_could_not_see_is_no_difference(ranks):
    blind = {**apart(1), "DOUBLE_HANG": "nvmlInit_v2"}
    code = "import envlock.probe.driver as driver\n" + WAIT
    results = ranks.run([code] * 2, [apart(0), blind])
    assert [said(each)[0] for each in results] == ["fine", "fine"]


def test_told_to_warn_they_go_on(ranks):
    code = "import envlock\n" + SAY + "said(envlock.preflight(on_difference='warn', timeout=40))"
    for each in ranks.run([code] * 2, [GOOD, OLD]):
        verdict, message, _ = said(each)
        assert verdict == "problem" and "driver.version" in message
        assert "PreflightWarning: the stacks of this job differ" in each["out"]


def test_over_a_process_group_that_is_there_and_stays_usable(ranks):
    code = (
        "import torch, torch.distributed as dist\ndist.init_process_group('gloo')\n" + WAIT + "\n"
        "envlock.preflight(timeout=40)\n"
        "one = torch.ones(1); dist.all_reduce(one); print('SUM', one.item()); dist.destroy_process_group()"
    )
    for each in ranks.run([code] * 2, [apart(0), apart(1)]):
        assert said(each)[0] == "fine"
        assert "SUM 2.0" in each["out"]


def test_a_rank_that_comes_too_late_does_no_harm_to_the_group(ranks):
    code = (
        "import torch, torch.distributed as dist, time, envlock\ndist.init_process_group('gloo')\n"
        "if dist.get_rank(): time.sleep(4)\n"
        + SAY
        + "said(envlock.preflight(timeout=2, on_difference='warn'))\n"
        "one = torch.ones(1); dist.all_reduce(one); print('SUM', one.item()); dist.destroy_process_group()"
    )
    for each in ranks.run([code] * 2, [GOOD] * 2):
        verdict, message, _ = said(each)
        assert verdict == "unknown" and "rank 1 of 2 did not come in time" in message
        assert "SUM 2.0" in each["out"]


def test_a_rank_that_never_calls_is_named_by_all_others(ranks):
    results = ranks.run([SHORT, "import time; time.sleep(9)", SHORT], [GOOD] * 3)
    for each in (results[0], results[2]):
        assert "rank 1 of 3 did not come in time" in error(each, "PreflightError")


def test_without_rank_0_the_others_end_as_well(ranks):
    serve = "import envlock.fleet.preflight.torch_store as t, os, time\n" \
        "t.of_environment(os.environ, time.monotonic() + 30); time.sleep(9)"  # fmt: skip
    results = ranks.run([serve, SHORT, SHORT], [GOOD] * 3, limit=30)
    for each in results[1:]:
        assert "rank 0 gave no answer within 4 s" in error(each, "PreflightError")


def test_where_rank_0_was_never_started_the_others_end_as_well(ranks):
    (result,) = ranks.run([SHORT], [{**GOOD, "RANK": "1", "WORLD_SIZE": "2"}], limit=30)
    assert "rank 0's store at 127.0.0.1:" in error(result, "PreflightError")


CAPTURE = "import envlock, os, time\ndef capture(**options): {}\nenvlock.capture = capture\n"
QUICK = "from envlock.manifest.model import Manifest\n" + CAPTURE.format("return Manifest()") + SHORT
"""Where what is tested is a time limit, no rank's own capture should be what takes long."""


def test_a_capture_that_raises_ends_all_with_its_reason(ranks):
    spoilt = CAPTURE.format("raise OSError('disk quota exceeded')") + SHORT
    results = ranks.run([QUICK, spoilt, QUICK], [apart(0), apart(1), apart(2)])
    (message,) = {error(each, "PreflightError") for each in results}
    assert ": its capture failed: OSError: disk quota exceeded" in message and "rank 1 on " in message


def test_a_capture_that_hangs_ends_all_in_time(ranks):
    results = ranks.run(
        [QUICK, CAPTURE.format("time.sleep(600)") + SHORT, QUICK], [apart(0), apart(1), apart(2)]
    )
    (message,) = {error(each, "PreflightError") for each in results}
    assert ": its capture did not end in time" in message and "rank 1 on " in message


@pytest.mark.parametrize(
    ("rank", "reason"),
    [(0, "the connection to the job's store was lost"), (1, "it ended or hangs in its capture")],
)
def test_a_rank_that_dies_in_its_capture_ends_all_others_in_time(ranks, rank, reason):
    codes = [QUICK, QUICK, QUICK]
    codes[rank] = CAPTURE.format("os._exit(9)") + SHORT
    results = ranks.run(codes, [apart(0), apart(1), apart(2)])
    assert results.pop(rank)["exit"] == 9
    for each in results:
        assert reason in error(each, "PreflightError")


def test_another_envlock_on_one_node_is_said_so(ranks):
    other = "import envlock.fleet.preflight.talk as talk\ntalk.__version__ = '99.0'\n" + WAIT
    for each in ranks.run([WAIT, other], [GOOD] * 2):
        assert "rank 1" in error(each, "PreflightError") and "runs envlock 99.0" in each["out"]


def test_garbage_from_a_rank_ends_all_with_a_sentence(ranks):
    garbage = (
        "import envlock.fleet.preflight.talk as talk\ntalk._packed = lambda message: b'\\x00 garbage'\n"
        + WAIT
    )
    results = ranks.run([WAIT, garbage, WAIT], [GOOD] * 3)
    for each in results:
        assert "rank 1 runs another envlock" in error(each, "PreflightError")


SECRETS = {
    "HF_TOKEN": "hf_abcdefghijklmnopqrstuvwxyz",
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "NCCL_SECRET_KEY": "swordfish-nccl",
    "HTTPS_PROXY": "http://alice:swordfish-proxy@proxy:3128",
    "PYTHONWARNINGS": "ghp_abcdefghijklmnopqrstuvwxyz0123",
}


def test_no_secret_is_on_the_wire(ranks, tmp_path):
    listen = (
        "import envlock.fleet.preflight.torch_store as t, os\nsend = t.StoreTransport._set\n"
        "def spy(self, key, value):\n"
        f"    open('{tmp_path}/' + os.environ['RANK'], 'ab').write(value)\n    send(self, key, value)\n"
        "t.StoreTransport._set = spy\n"
    )
    odd = {
        **GOOD,
        **SECRETS,
        "NCCL_ALGO": "Tree",
        "HOME": "/home/alice",
        "TORCH_EXTENSIONS": "/home/alice/ext",
    }
    results = ranks.run([listen + WAIT] * 2, [{**GOOD, **SECRETS}, odd])
    wire = b"".join((tmp_path / name).read_bytes() for name in "01")
    assert b'"NCCL_ALGO":"Tree"' in wire and b'"HF_TOKEN":"***"' in wire
    for text in [wire.decode(), *(each["out"] for each in results)]:
        for name, secret in SECRETS.items():
            assert secret not in text, name
        assert "swordfish" not in text and "alice" not in text


def test_only_what_differs_is_sent(ranks, tmp_path):
    listen = (
        "import envlock.fleet.preflight.torch_store as t, os\nsend = t.StoreTransport._set\n"
        "def spy(self, key, value):\n"
        f"    open('{tmp_path}/' + os.environ['RANK'], 'ab').write(value)\n    send(self, key, value)\n"
        "t.StoreTransport._set = spy\n"
    )
    ranks.run([listen + WAIT] * 2, [GOOD, OLD])
    sent = (tmp_path / "1").read_bytes()
    assert b"470.256.02" in sent and b'"package":{' not in sent
    tmp_path.joinpath("1").unlink()
    ranks.run([listen + WAIT] * 2, [apart(0), apart(1)])
    sent = (tmp_path / "1").read_bytes()
    assert b"580.95.05" not in sent and b'"digests"' in sent


def test_the_module_and_the_function_of_one_name_do_the_same(ranks):
    code = (
        "import envlock, envlock.preflight\n"
        + SAY
        + "said(envlock.preflight(timeout=40)); said(envlock.preflight())"
    )
    assert [said(each)[0] for each in ranks.run([code] * 2, [GOOD] * 2)] == ["fine", "fine"]
