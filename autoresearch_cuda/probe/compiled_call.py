"""A kernel within a graph of its own, as it stands within the graph of a compiled trainer."""

from typing import Any

import torch

from autoresearch_cuda.probe.context import caller_of
from autoresearch_trainer.kernel_files import Kernel

# torch.compile makes a version per shape and arm, and beyond its limit runs uncompiled without a word.
MOST_COMPILES = 256


class CompiledCall:
    """`function` through torch.compile, one graph per shape. Where it cannot be one graph it runs in pieces, as in a
    trainer that may break its graph, and `graph_break` says why."""

    def __init__(self, function: Kernel) -> None:
        import torch._dynamo
        import torch._inductor.config as inductor

        torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = MOST_COMPILES
        # Two thirds of what the first compilation in an empty cache takes: a trial of what the compiler has just been
        # asked for anyway (where it cannot, the compilation fails), and headers for many more graphs than these few.
        inductor.cpp.vec_isa_ok = True
        inductor.cpp_cache_precompile_headers = False
        self.graph_break: str | None = None
        self._graph = caller_of(function)
        self._run: Kernel = torch.compile(self._graph, fullgraph=True, dynamic=False)

    def __call__(self, *arguments: Any) -> Any:
        try:
            return self._run(*arguments)
        except (torch._dynamo.exc.Unsupported, torch._dynamo.exc.UserError) as error:
            if self.graph_break is not None:
                raise
            self.graph_break = _reason(error)
            self._run = torch.compile(self._graph, dynamic=False)
            return self._run(*arguments)


def _reason(error: Exception) -> str:
    """What Dynamo met and its explanation, as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    explained = next((line.partition(":")[2].strip() for line in lines if line.startswith("Explanation:")), "")
    return ": ".join(filter(None, [lines[0] if lines else type(error).__name__, explained]))
