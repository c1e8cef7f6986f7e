"""What relations learned: which are one comparison, and what the table says of each."""

from benchmarks.relations import Finding, comparisons, table


def test_a_relation_and_its_mirror_are_one_comparison():
    names = ["ego.key = items.lock", "items.lock = ego.key", "items.lock = items.lock", "a -> b: offset 0"]
    assert comparisons(names) == {
        "ego.key = items.lock": names[:2],
        "items.lock = items.lock": names[2:3],
        "a -> b: offset 0": names[3:],
    }


def test_the_table_counts_the_seeds_that_a_relation_grew_on_and_hurts_most_on():
    findings = []
    for seed, (grown, without) in enumerate([(15.0, 0.2), (17.0, 0.4), (10.5, 0.1)]):
        findings += [
            Finding("Boxes", "attention", seed, "(all)", 0.0, 0.0, 1.0),
            Finding("Boxes", "attention", seed, "b = b", 10.0, 10.0, 0.3),
            Finding("Boxes", "attention", seed, "a = b", 10.0, grown, without),
        ]
    whole, first, second = table(findings).splitlines()[2:]
    assert whole == "| Boxes, attention | nothing cut | – | – | – | 1.000 ± 0.000 | – |"
    assert first == ("| Boxes, attention | a = b | 10.0 ± 0.0 | 14.2 ± 3.3 | 2 of 3 | 0.233 ± 0.153 | 2 of 3 |")
    assert second == "| Boxes, attention | b = b | 10.0 ± 0.0 | 10.0 ± 0.0 | 0 of 3 | 0.300 ± 0.000 | 1 of 3 |"
