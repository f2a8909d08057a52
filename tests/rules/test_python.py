"""Rules about the interpreter: its end of life is judged by the day of the capture."""

from envlock.manifest.read import loads
from envlock.rules.engine import run
from tests.rules.support import found, matrix


def ended(version, day, source="root"):
    manifest = loads(
        f'schema = "envlock/1"\n[capture]\nsource = "{source}"\ntime = {day}T00:00:00Z\n[python]\nversion = "{version}"\n'
    )
    return [finding for finding in run(manifest, matrix()).findings if finding.rule == "python-end-of-life"]


def test_a_python_is_at_its_end_on_the_day_of_the_capture_or_not():
    (finding,) = ended("3.9.18", "2026-01-15")
    assert (finding.severity, finding.subject) == ("note", "python.version")
    assert "2025-10-31" in finding.message
    assert finding.breaks is False
    assert ended("3.9.18", "2025-01-15") == []
    assert ended("3.99.0", "2026-01-15") == []


def test_a_paste_without_a_day_is_not_judged_by_today():
    assert found("python-end-of-life", '[python]\nversion = "3.6.9"\n', "import") == []
    assert found("python-end-of-life", '[python]\nversion = "3.6.9"\n', "root") != []
    assert found("python-end-of-life", '[python]\nversion = "3.6.9"\nimplementation = "PyPy"\n', "root") == []
