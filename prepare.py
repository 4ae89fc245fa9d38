"""Front door: prepares a dataset. `python prepare.py --help` says how."""

import sys

try:
    from autoresearch_data.cli import main
except ModuleNotFoundError as error:
    print(f"error: {error.name} is not installed here: make setup, then . .venv/bin/activate", file=sys.stderr)
    sys.exit(2)
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(main())
