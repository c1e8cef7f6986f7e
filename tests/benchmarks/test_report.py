"""The report on the learning benchmark: its statistics against independent ones, and every file it writes."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import intervals, tables, verdicts
from benchmarks.learning import Args, planned
from benchmarks.levels import level_table
from benchmarks.results import check_one_rate, read

RANDOM = np.random.default_rng(7)
OURS = [RANDOM.uniform(0.6, 1.0, 11) for _ in range(3)]
THEIRS = [RANDOM.uniform(0.5, 0.9, 11) for _ in range(3)]


def test_the_interquartile_mean_is_the_mean_of_the_middle_half():
    scores = np.array([[9.0, 1, 2, 3, 4, 5, 100], [0, 0, 0, 7, 0, 0, 0]])
    np.testing.assert_allclose(intervals.interquartile_mean(scores), [(2 + 3 + 4 + 5 + 9) / 5, 0])


def test_a_stratum_is_resampled_by_itself():
    first, second = intervals.resampled([np.zeros(3), np.ones(5)], np.random.default_rng(0), draws=7)
    assert (first.shape, second.shape) == ((7, 3), (7, 5))
    assert not first.any()
    assert second.all()


def test_ties_are_half_an_improvement():
    assert intervals.probability_of_improvement(np.array([1.0, 2]), np.array([1.0, 0])) == (0.5 + 1 + 1 + 1) / 4


def test_the_profile_is_the_share_of_runs_above_a_threshold():
    strata = [np.array([0.1, 0.5]), np.array([0.5, 0.9])]
    profile = intervals.performance_profile(strata, np.array([0.0, 0.3, 0.5, 0.9]))
    np.testing.assert_allclose(profile, [1, 0.75, 0.25, 0])


def test_the_statistics_agree_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    trimmed = stats.trim_mean(np.concatenate(OURS), 0.25)
    np.testing.assert_allclose(intervals.interquartile_mean(np.concatenate(OURS)), trimmed)
    u = np.mean([stats.mannwhitneyu(x, y).statistic / (len(x) * len(y)) for x, y in zip(OURS, THEIRS, strict=True)])
    np.testing.assert_allclose(intervals.improvement(OURS, THEIRS)[0], u)


def test_the_statistics_agree_with_rliable():
    library = pytest.importorskip("rliable.library", reason="needs rliable, and pandas below 3")
    metrics = pytest.importorskip("rliable.metrics")
    ours, theirs = np.stack(OURS, 1), np.stack(THEIRS, 1)  # (runs, environments)
    np.testing.assert_allclose(intervals.interquartile_mean(np.concatenate(OURS)), metrics.aggregate_iqm(ours))
    improvement = metrics.probability_of_improvement(ours, theirs)
    np.testing.assert_allclose(intervals.improvement(OURS, THEIRS)[0], improvement)
    thresholds = np.linspace(0, 1, 13)
    profile = [library.run_score_deviation(ours, threshold) for threshold in thresholds]
    np.testing.assert_allclose(intervals.performance_profile(OURS, thresholds), profile)

    random = np.random.RandomState(5)
    _, bounds = library.get_interval_estimates(
        {"ours": ours}, lambda scores: np.array([metrics.aggregate_iqm(scores)]), reps=2000, random_state=random
    )
    np.testing.assert_allclose(intervals.interval(OURS), bounds["ours"][:, 0], atol=6e-3)
    _, bounds = library.get_interval_estimates(
        {"both": (ours, theirs)},
        lambda x, y: np.array([metrics.probability_of_improvement(x, y)]),
        reps=500,
        random_state=random,
    )
    np.testing.assert_allclose(intervals.improvement(OURS, THEIRS)[1:], bounds["both"][:, 0], atol=2e-2)


def write_results(folder: Path, rates: tuple[float, ...] = (0.003,)) -> None:
    """Two environments, two policies, three seeds; the flat policy is evaluated on the trained counts alone."""
    rows = []
    for environment, policy, seed, rate in (
        (e, p, s, r) for e in ("Seek", "Dodge") for p in ("flat", "attention") for s in range(3) for r in rates
    ):
        success = (0.9 if policy == "attention" else 0.2) + seed / 100
        row = {"environment": environment, "policy": policy, "seed": seed, "learning_rate": rate, "parameters": 12345}
        row |= {"total_timesteps": 2000, "cpu_seconds": 3.5, "steps_to_0.95": "", "seconds_to_0.95": ""}
        row["curve"] = json.dumps([[1000, 1.5, success / 2], [2000, 3.0, success]])
        row |= {"evaluated_on": "{}", "min_entities": 4, "max_entities": 8, "success_rate": success, "mean_return": 1.0}
        rows.append(row)
        if policy == "attention":
            change = {"evaluated_on": '{"min_entities": 16}', "min_entities": 16, "max_entities": 16}
            rows.append(row | change | {"curve": "", "success_rate": 0.5})
    with (folder / "learning.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_every_table_and_plot_is_written(tmp_path: Path):
    pytest.importorskip("matplotlib", reason="needs an extra: pip install 'attn_rl[bench]'")
    from benchmarks import report

    write_results(tmp_path)
    page = tmp_path / "page.md"
    page.write_text("Before\n\n<!-- success -->\nold\n<!-- /success -->\n\nafter\n")
    report.main(report.Args(tmp_path, page))
    made = page.read_text()
    assert made.startswith("Before\n\n<!-- success -->\n\n|  | attention | flat |\n")
    assert made.endswith("|\n\n<!-- /success -->\n\nafter\n")
    assert "old" not in made
    lines = (tmp_path / "tables.md").read_text().splitlines()
    assert "|  | attention | flat |" in lines
    assert "| Seek | **.910 [.900, .920]** | .210 [.200, .220] |" in lines
    assert "| Seek, 16 entities | **.500 [.500, .500]** |" in lines
    assert "| Seek | 1.00 [1.00, 1.00], above |" in lines
    assert "| Dodge | .819 | 3 of 3 | 0 of 3 |" in lines
    plots = ("success", "curves-steps", "curves-seconds", "transfer", "profiles", "improvement")
    assert [name for name in plots if not (tmp_path / f"{name}.png").stat().st_size] == []


def test_the_standing_and_its_exceptions_are_put_in_words(tmp_path: Path):
    write_results(tmp_path)
    rows = read(tmp_path / "learning.csv")
    assert verdicts.standing(rows) == "- against **flat**: above, intervals apart: Seek, Dodge."
    assert verdicts.not_better(rows) == "- There is no figure in which another policy is ahead of attention."
    assert verdicts.not_better(rows, ours="flat").splitlines() == [
        f"- {name}, 4-8 entities: attention .910 [.900, .920], flat .210 [.200, .220] (below, intervals apart)."
        for name in ("Seek", "Dodge")
    ]


def test_the_share_of_steps_compares_medians(tmp_path: Path):
    write_results(tmp_path)
    rows = [
        replace(row, steps_to_95=100.0 if row.policy == "flat" else 62.0) for row in read(tmp_path / "learning.csv")
    ]
    assert verdicts.steps_share(rows, "attention", "flat") == ["steps to 95%, of theirs: 0.62 (Seek), 0.62 (Dodge)"]
    assert "- Seek, steps to 95% (median): attention 0k, flat 0k." in verdicts.not_better(rows, ours="flat")


def test_the_seeds_that_reach_a_published_level_are_counted(tmp_path: Path):
    write_results(tmp_path)
    rows = [replace(row, environment="Tiles", success=row.success + 0.04) for row in read(tmp_path / "learning.csv")]
    line = tables.anchor_table([row for row in rows if row.seed > 0]).splitlines()[2]
    assert line.startswith("| Tiles: success of at least .950 in 10k steps | ")
    assert "; 4 of 4** |" in line
    assert "; 0 of 4 |" in line


def test_a_level_counts_the_seeds_that_reach_it(tmp_path: Path):
    write_results(tmp_path)
    rows = read(tmp_path / "learning.csv")
    rows = [replace(row, success=row.success + 0.08, steps_to_95=60_000.0 + 9_000 * row.seed) for row in rows]
    lines = level_table(rows).splitlines()
    assert "| Seek, trained counts | at least .990 | 2 of 3 | .980 |" in lines
    assert "| Seek, 16 entities | at least .980 | 0 of 3 | .580 |" in lines
    assert "| Seek, 32 entities | at least .950 | – | – |" in lines
    assert "| Seek, while training | 95% within 70k steps (median) | 2 of 3 | median 69k |" in lines
    assert not any(line.startswith("| Boxes") for line in lines)


def test_a_table_that_there_is_not_is_named():
    pytest.importorskip("matplotlib", reason="needs an extra: pip install 'attn_rl[bench]'")
    from benchmarks.report import filled

    with pytest.raises(ValueError, match=r"asks for the table 'sucess'; there are \['success'\]"):
        filled("<!-- sucess -->\n<!-- /sucess -->", {"success": ("", "")})


def test_seeds_at_different_learning_rates_are_not_mixed(tmp_path: Path):
    write_results(tmp_path, rates=(0.003, 0.005))
    with pytest.raises(ValueError, match=r"flat on Seek was trained with learning rates \[0.003, 0.005\]"):
        check_one_rate(read(tmp_path / "learning.csv"))


def test_counts_by_type_are_added_up(tmp_path: Path):
    write_results(tmp_path)
    path = tmp_path / "learning.csv"
    path.write_text(path.read_text().replace(",4,8,", ",\"{'food': 2, 'walls': 3}\",\"{'food': 4, 'walls': 7}\","))
    assert read(path)[0].entities == "5-11"


def test_longer_runs_are_no_part_of_the_comparison(tmp_path: Path):
    pytest.importorskip("matplotlib", reason="needs an extra: pip install 'attn_rl[bench]'")
    from benchmarks import report

    write_results(tmp_path)
    report.main(report.Args(tmp_path, None))
    before = (tmp_path / "tables.md").read_text()
    path = tmp_path / "learning.csv"
    head, *rows = path.read_text().splitlines()
    path.write_text(
        "\n".join([head, *rows, *(row.replace("Seek", '"Match odd, 500k"') for row in rows if "Seek" in row)])
    )
    report.main(report.Args(tmp_path, None))
    after = (tmp_path / "tables.md").read_text()
    added = after[len(before.rstrip()) :]
    assert after.startswith(before.rstrip())
    assert "| Match odd, 500k, 4-8 entities | **.910 [.900, .920]** | .210 [.200, .220] |" in added


def test_longer_runs_are_made_of_the_policies_that_might_need_them():
    rates = {"plain attention": 6e-3, "deepsets": 5e-3}
    cells = planned(Args(envs=("Match odd", "Match odd, 500k"), seeds=2))
    longer = [(cell.policy, cell.seed, cell.learning_rate) for cell in cells if cell.environment == "Match odd, 500k"]
    assert longer == [(policy, seed, rate) for seed in (0, 1) for policy, rate in rates.items()]
    assert len(cells) == 2 * 5 + len(longer)
