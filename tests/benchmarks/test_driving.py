"""The table of drivers says what the rows say."""

from benchmarks.driving import FIELDS, driving_table, missing


def row(policy: str, seed: int, steps: int, crashed: float) -> dict[str, str]:
    figures = dict.fromkeys(FIELDS, "0.5") | {f"{field}_error": "0.04" for field in FIELDS}
    return {
        "environment": "highway-fast-v0",
        "policy": policy,
        "seed": str(seed),
        "steps": str(steps),
        "parameters": "1700",
        "cpu_seconds": "23",
        "episodes": "100",
        **figures,
        "crashed": str(crashed),
    }


def test_seeds_are_averaged_and_shown():
    table = driving_table([row("IDLE", 0, 0, 0.9), row("attention", 0, 10240, 0.2), row("attention", 1, 10240, 0.4)])
    idle, attention = table.splitlines()[2:]
    assert idle == "| highway-fast-v0 | IDLE | – | – | – | 1 x 100 | 0.50 ± 0.04 | 0.90 ± 0.04 | 0.50 ± 0.04 |"
    assert attention.startswith(
        "| highway-fast-v0 | attention | 10,240 | 1,700 | 23 | 2 x 100 | 0.50 ± 0.03 (0.50, 0.50)"
    )
    assert "| 0.30 ± 0.03 (0.20, 0.40) |" in attention


def test_what_is_there_after_as_many_steps_is_not_run_again():
    cells = [("highway-fast-v0", policy, seed) for policy in ("IDLE", "attention") for seed in (0, 1)]
    held = [row("IDLE", 0, 0, 0.9), row("attention", 0, 10240, 0.2)]
    assert missing(cells, 10_000, held) == [cells[1], cells[3]]  # 10,000 steps are 40 rollouts of 256
    assert missing(cells, 20_000, held) == cells[1:]
