#!/usr/bin/env python3
"""Front door of the trainer; `python train.py --help` lists the options."""

import sys

try:
    from autoresearch_lab.cli.train import main
except ModuleNotFoundError as error:
    print(f"error: {error.name} is not installed here: make setup, then . .venv/bin/activate", file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(main())
