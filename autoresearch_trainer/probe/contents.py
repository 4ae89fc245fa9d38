"""How the contents of timed calls differ from call to call, the same way in every engine."""

import numpy as np

# Contents are scaled by 0.8 ... 1.25 from call to call; steps of the golden ratio do not repeat and fill evenly.
LEAST_SCALE, SCALE_RANGE, GOLDEN = 0.8, 0.45, 0.6180339887498949


def content_scale(number: int) -> float:
    """The factor of content `number`; no two numbers share one."""
    return LEAST_SCALE + SCALE_RANGE * (number * GOLDEN % 1.0)


def rolled_rows(content: np.ndarray, shift: int) -> np.ndarray:
    """A copy whose rows (last axis) lie `shift` places further on, all leading axes counted as one.

    Other contents with the same statistics: second moments stay positive and class numbers stay valid.
    """
    if content.size == 0:
        return content
    rows = content.reshape(-1, content.shape[-1]) if content.ndim > 1 else content.reshape(-1)
    return np.roll(rows, shift, 0).reshape(content.shape)
