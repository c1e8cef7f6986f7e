"""``attn-rl card``: a trained agent as a folder to hand on, and onto the Hugging Face Hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from attn_rl.training.share.trained_agent import TrainedAgent, opened


@dataclass(frozen=True)
class Card(TrainedAgent):
    """Make of a trained agent a folder to hand on: weights as data, figures with intervals, a map, a card."""

    out: Path = Path("card")
    """Folder to write."""
    episodes: int = 1000
    """Episodes for every row of the card's table."""
    push: str | None = None
    """Upload it to this repository of the Hugging Face Hub: user/name."""
    private: bool = False
    """Make a new repository that only its owner sees."""


def card(command: Card) -> None:
    """Write the folder, and push it where asked to."""
    from attn_rl.training.ranges import check_value
    from attn_rl.training.share.hub import push
    from attn_rl.training.share.publish import publish

    check_value("episodes", command.episodes)
    source = None if command.push is None else f"hf:{command.push}"
    with opened(command) as (folder, _, env_kwargs):
        written = publish(folder, command.out, episodes=command.episodes, source=source, env_kwargs=env_kwargs)
    print(f"wrote {written}")
    if command.push is not None:
        print(f"pushed: {push(command.out, command.push, private=command.private)}")
