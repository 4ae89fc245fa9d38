"""Fresh memory that holds a pattern, so that a result that was never computed cannot look right."""

import ctypes
import platform

# Every byte of fresh memory. As a float: -1.7e38 (float32, bfloat16) or NaN (float16); as a class number: nonsense.
PATTERN = 0xFE
# Another one, to tell memory that was left as it was from a value that happens to be huge.
SECOND_PATTERN = 0x7F

_M_PERTURB = -6


def set_pattern(pattern: int) -> bool:
    """Have malloc fill every block that it hands out from now on; False where the C library cannot."""
    if platform.libc_ver()[0] != "glibc":
        return False
    # The library stores the complement: what it is given is what freed blocks are filled with.
    return bool(ctypes.CDLL(None).mallopt(_M_PERTURB, pattern ^ 0xFF))
