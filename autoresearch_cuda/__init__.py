"""The PyTorch engine: model, optimizer, trainer and evaluation, on NVIDIA GPUs and on the CPU."""
