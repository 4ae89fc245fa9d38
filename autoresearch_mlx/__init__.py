"""The MLX engine: Apple GPUs, and the CPU build of MLX on Linux."""
