"""``python -m lexirec``: the command line."""

import sys

from lexirec.cli.main import run

sys.exit(run())
