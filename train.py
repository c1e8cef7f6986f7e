"""Train an agent that attends over entities, evaluate it, and show where it looks.

python train.py                                          # attention on Seek, about half a minute

python train.py --policy flat                            # the same with a flat MLP

python train.py --env AttnRL/Match-v0 --env-kwargs rule odd

python train.py --env AttnRL/Dodge-v0 --seeds 0-4 --n-heads 2    # five runs, and a table over them

python train.py --resume runs/NAME                       # killed or interrupted: go on as if nothing had happened

tensorboard --logdir runs                                # and look at it
"""

import sys

from attn_rl.training.arguments import Args, parse, to_json  # Args: every option, and what it is for
from attn_rl.training.train import main, run  # run: one training, top to bottom

__all__ = ["Args", "main", "parse", "run", "to_json"]

if __name__ == "__main__":
    main(sys.argv[1:], description=__doc__)
