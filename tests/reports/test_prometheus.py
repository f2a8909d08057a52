"""What the textfile collector reads: bounded, escaped, and parsed by Prometheus' own client."""

from prometheus_client.parser import text_string_to_metric_families

from envlock.compare.groups import Alike
from envlock.compare.nodes import compare_nodes
from envlock.locks.nodes import verify_nodes
from envlock.manifest.read import loads
from envlock.reports import prometheus
from tests.reports import support


def families(text):
    assert text.endswith("\n") and "\n\n" not in text
    found = list(text_string_to_metric_families(text))
    assert all(each.documentation and each.type == "gauge" for each in found)
    return {each.name: each.samples for each in found}


def test_hostile_names_are_labels_and_nothing_else():
    comparison, verification = support.nodes(hostile_names=True)
    for text in (prometheus.comparison(comparison), prometheus.verification(verification)):
        found = families(text)
        assert set(found) < {
            "envlock_nodes", "envlock_groups", "envlock_finding", "envlock_finding_unlisted", "envlock_node_apart",
            "envlock_drift", "envlock_drift_unlisted", "envlock_node_drift",
        }  # fmt: skip
        assert all(each >= " " for line in text.splitlines() for each in line)
    (apart,) = families(prometheus.comparison(comparison))["envlock_node_apart"]
    assert apart.labels == {"node": support.EVIL[-2]}


def test_a_node_is_counted_once_however_often_a_finding_is_told():
    found = families(prometheus.verification(support.nodes()[1]))
    counts = {(each.labels["rule"], each.labels["subject"]): each.value for each in found["envlock_finding"]}
    assert counts["driver-too-old-for-cuda", "driver.version"] == 1


def test_the_number_of_series_is_bounded_and_what_is_beyond_is_counted():
    def machine(version):
        packages = "".join(f'p{place:03} = {{ version = "{version}" }}\n' for place in range(300))
        return loads(f'schema = "envlock/1"\n[package.pip]\n{packages}')

    sound = machine("1.0")
    kinds = [Alike([f"n{place}" for place in range(900)], sound, [])]
    kinds += [Alike([f"odd{place:03}" for place in range(250)], machine("2.0"), [])]
    verified = families(prometheus.verification(verify_nodes(sound, kinds, support.MATRIX)))
    assert len(verified["envlock_drift"]) == len(verified["envlock_node_drift"]) == prometheus.SERIES
    assert verified["envlock_drift_unlisted"][0].value == 200
    compared = families(prometheus.comparison(compare_nodes(kinds, support.MATRIX)))
    assert len(compared["envlock_node_apart"]) == prometheus.SERIES
    assert {each.labels["state"]: each.value for each in compared["envlock_nodes"]}["apart"] == 250
