"""Does a change make anything slower? Kernels of two versions, commands, or any two functions, by the bench's rule.

Of use without the rest of the lab: `from autoresearch_lab.gate import compare_calls`.
"""

from autoresearch_lab.gate.calls import compare_calls
from autoresearch_lab.gate.commands import compare_commands
from autoresearch_lab.gate.race import Compared

__all__ = ["Compared", "compare_calls", "compare_commands"]
