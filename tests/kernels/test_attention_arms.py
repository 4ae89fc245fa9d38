"""Libraries' attention that needs a GPU, as far as a CPU can say: FlexAttention uncompiled, FlashAttention's calls."""

import sys
from types import SimpleNamespace

import pytest
import torch
from kernel_cases import kernel
from torch.nn.attention.flex_attention import flex_attention

TARGET = "windowed_attention"


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize(("window", "heads"), [(5, 2), (31, 2), (200, 4)])
def test_flex_attention_has_the_same_window(window, heads):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 200, count, 16) for count in (heads, 2, 2))
    flex = kernel(TARGET, "flex_attention")
    flex.__globals__["_flex"] = flex_attention
    torch.testing.assert_close(flex(q, k, v, window), kernel(TARGET, "torch_library")(q, k, v, window))


def test_flash_attention_is_asked_for_a_causal_window_that_is_inclusive(monkeypatch):
    asked = []

    def flash_attn_func(q, k, v, **options):
        asked.append(options)
        return q

    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace(flash_attn_func=flash_attn_func))
    q = torch.zeros(1, 4, 2, 16)
    assert kernel(TARGET, "flash_attention")(q, q, q, 3) is q
    assert asked == [{"causal": True, "window_size": (3, 0)}]
