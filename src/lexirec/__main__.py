"""The command line: ``lexirec``, or ``python -m lexirec``."""

import sys


def main() -> int:
    """Run the command line; returns the exit code. Ctrl-C while it is still being loaded ends it without a word."""
    try:
        from lexirec.cli.main import run

        return run()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
