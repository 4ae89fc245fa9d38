#!/usr/bin/env python3
"""Front door of the kernel lab; `python kernel-lab.py --help` lists the verbs."""

import sys

from autoresearch_lab.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
