"""Front door: prepares a dataset. `python prepare.py --help` says how."""

import sys

from autoresearch_data.cli import main

if __name__ == "__main__":
    sys.exit(main())
