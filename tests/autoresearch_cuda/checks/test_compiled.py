"""The two operators that a checked call of compiled code stands between."""

import torch

from autoresearch_cuda.checks import compiled


class NotSampled:
    def begin(self, target, arguments, wanted):
        return None


def test_several_results_come_back_as_a_tuple_whatever_held_them():
    x = torch.randn(3)
    for several in (tuple, list):
        key = compiled.site(NotSampled(), "residual_norm", (None,))
        first, second = compiled.between(lambda x, several=several: several((x + 1, 2 * x)), [x], key)
        assert torch.equal(first, x + 1) and torch.equal(second, 2 * x)
