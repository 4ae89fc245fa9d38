"""Makes `kernel_cases`, which the tests of this folder share, importable whatever the folder pytest starts in."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
