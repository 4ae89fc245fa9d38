"""Validation loss of a PyTorch model in bits per byte; what is read, and how it is added up, is shared."""

import numpy as np
import torch

from autoresearch_cuda.model import GPT
from autoresearch_cuda.process import is_out_of_memory


class BatchLosses:
    """Losses of a batch in pieces of `rows` sequences; smaller ones once memory has run out."""

    def __init__(self, model: GPT, rows: int) -> None:
        self.model = model
        self.rows = rows
        self.device = model.lm_head.weight.device

    @torch.no_grad()
    def __call__(self, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        inputs_t, targets_t = (torch.from_numpy(a).to(self.device, torch.int64) for a in (inputs, targets))
        while True:
            try:
                pieces = zip(inputs_t.split(self.rows), targets_t.split(self.rows), strict=True)
                return torch.cat([self.model(i, t, reduction="none").cpu().double() for i, t in pieces]).numpy()
            except (RuntimeError, MemoryError) as error:
                if self.rows == 1 or not is_out_of_memory(error):
                    raise
            # Outside the handler: the exception holds on to the tensors that did not fit.
            self.rows = max(1, self.rows // 2)
            if inputs_t.is_cuda:
                torch.cuda.empty_cache()
