"""App: `python -m rllib_ppg` does what the `rllib` command does."""

import sys

from rllib_ppg.app.cli import main

if __name__ == "__main__":
    sys.exit(main())
