#!/usr/bin/env python3
"""Front door of the trainer; `python train.py --help` lists the options."""

import sys

from autoresearch_lab.sandbox.own_end import to_its_end


def main() -> int:
    try:
        from autoresearch_lab.cli.train import main as train
    except ModuleNotFoundError as error:
        print(f"error: {error.name} is not installed here: make setup, then . .venv/bin/activate", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return train()


if __name__ == "__main__":
    sys.exit(to_its_end(main))
