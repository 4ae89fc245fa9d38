#!/usr/bin/env python3
"""Front door of the trainer; `python train.py --help` lists the options."""

import sys

from autoresearch_lab.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
