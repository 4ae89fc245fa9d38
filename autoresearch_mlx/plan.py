"""What is asked of this engine before it trains."""

# ruff: noqa: F401  (the names are what this module is for)

from autoresearch_mlx.memory import available_bytes
from autoresearch_mlx.process import describe_attention, resolve_compile
