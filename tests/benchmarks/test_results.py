from types import SimpleNamespace

from benchmarks.results import common


def test_environments_are_shared_that_all_the_usual_policies_were_run_in():
    runs = {"attention": "ABCDE", "deepsets": "ABCD", "flat": "ABCDE", "plain attention": "AB"}
    rows = [SimpleNamespace(environment=name, policy=policy) for policy, names in runs.items() for name in names]
    assert common(rows) == ["A", "B", "C", "D"]  # plain attention is no usual policy: two of five
