"""``attn-rl card``: a run as a folder to hand on, and onto the Hugging Face Hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional


@dataclass(frozen=True)
class Card:
    """Make of a run a folder to hand on: weights as data, figures with intervals, a picture of the map, a card."""

    run: Positional[Path]
    """Run folder."""
    out: Path = Path("card")
    """Folder to write."""
    episodes: int = 1000
    """Episodes for every row of the card's table."""
    push: str | None = None
    """Upload it to this repository of the Hugging Face Hub: user/name."""
    private: bool = False
    """Make a new repository that only its owner sees."""
    env: str | None = None
    """The run's own --env, repeated: needed where it imports a module of yours."""
    policy: str | None = None
    """The run's own --policy with its module, my_module:mine: needed where it is one of yours."""


def card(command: Card) -> None:
    """Write the folder, and push it where asked to."""
    from attn_rl.training.ranges import check_value
    from attn_rl.training.run.repeated import read_repeated_args
    from attn_rl.training.share.hub import push
    from attn_rl.training.share.publish import publish

    check_value("episodes", command.episodes)
    read_repeated_args(command.run, command.env, command.policy)
    source = None if command.push is None else f"hf:{command.push}"
    print(f"wrote {publish(command.run, command.out, episodes=command.episodes, source=source)}")
    if command.push is not None:
        print(f"pushed: {push(command.out, command.push, private=command.private)}")
