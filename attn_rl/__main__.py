"""``python -m attn_rl`` is ``attn-rl``."""

from attn_rl.cli import main

if __name__ == "__main__":
    main()
