"""Peak rates that makers state for chips: dense bfloat16 matrix products, in FLOP/s, without sparsity.

Only chips whose figure is certain; every other one is unknown. A rate is a property of one board: cards that share a
chip's name but not its clocks are listed apart or left out.
"""

# Name as the driver reports it -> FLOP/s.
_BFLOAT16 = {
    "NVIDIA H200": 989.5e12,
    "NVIDIA H100 80GB HBM3": 989.5e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-PCIE-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA GeForce RTX 4090": 165.2e12,
    "NVIDIA GeForce RTX 3090": 71e12,
}


def datasheet_flops(device_name: str, compute_dtype: str = "bfloat16") -> float | None:
    """FLOP/s of the chip of that name; None = unknown."""
    return _BFLOAT16.get(device_name) if compute_dtype == "bfloat16" else None
