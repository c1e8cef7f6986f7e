"""The table of drivers says what the rows say."""

from benchmarks.driving import FIELDS, driving_table


def row(policy: str, seed: int, steps: int, crashed: float) -> dict[str, str]:
    figures = dict.fromkeys(FIELDS, "0.5") | {f"{field}_error": "0.04" for field in FIELDS}
    return {
        "environment": "highway-fast-v0",
        "policy": policy,
        "seed": str(seed),
        "steps": str(steps),
        "parameters": "17",
        "episodes": "100",
        **figures,
        "crashed": str(crashed),
    }


def test_seeds_are_averaged_and_shown():
    table = driving_table([row("IDLE", 0, 0, 0.9), row("attention", 0, 10240, 0.2), row("attention", 1, 10240, 0.4)])
    idle, attention = table.splitlines()[2:]
    assert idle == "| highway-fast-v0 | IDLE | – | 17 | 100 | 0.50 (± 0.04) | 0.90 (± 0.04) | 0.50 (± 0.04) |"
    assert "| attention | 10,240 | 17 | 100 | 0.50 (0.50, 0.50) | 0.30 (0.20, 0.40) |" in attention
