#!/usr/bin/env python3
"""Front door of the kernel lab; `python kernel-lab.py --help` lists the verbs."""

import sys

try:
    from autoresearch_lab.cli.app import main
except ModuleNotFoundError as error:
    print(f"error: {error.name} is not installed here: make setup, then . .venv/bin/activate", file=sys.stderr)
    sys.exit(2)
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(main())
