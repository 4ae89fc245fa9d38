"""Catches a kernel that cannot be used at all: it does not compile or import, was edited meanwhile, defines no function
of the target's name, or one with other parameters."""

from autoresearch_lab.results.verify import CheckResult
from autoresearch_lab.verify.checks.result import failed, passed
from autoresearch_lab.verify.comparisons import Comparisons

NAME = "loads"
_POSITIONAL = ("POSITIONAL_ONLY", "POSITIONAL_OR_KEYWORD")


def check(evidence: Comparisons) -> CheckResult:
    failure = evidence.candidate.failure
    if failure is not None and failure.stage in ("start", "load"):
        return failed(f"while loading: {failure.message}", kind=failure.kind, detail=failure.detail[-800:])
    if failure is not None:
        return passed()
    wanted = [argument.name for argument in evidence.target.contract.args]
    found = evidence.candidate.description.get("signature")
    if not isinstance(found, list):
        return failed(f"the function has no readable signature: {found}")
    names = [name for name, _ in found]
    odd = [f"{name} ({kind.lower().replace('_', ' ')})" for name, kind in found if kind not in _POSITIONAL]
    if names != wanted or odd:
        reason = f"signature is ({', '.join(names)}), the contract asks for ({', '.join(wanted)})"
        return failed(reason + (f"; not positional: {', '.join(odd)}" if odd else ""))
    return passed()
