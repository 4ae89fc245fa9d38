"""Can the kernel be used at all?"""

from __future__ import annotations

from autoresearch_lab.results.verify import CheckResult
from autoresearch_lab.verify.checks.result import failed, passed
from autoresearch_lab.verify.comparisons import Comparisons

_POSITIONAL, _ANY = ("POSITIONAL_ONLY", "POSITIONAL_OR_KEYWORD"), "VAR_POSITIONAL"


def loads(evidence: Comparisons) -> CheckResult:
    """Catches a kernel that cannot be used at all: it does not compile or import, defines no function of the
    target's name, or one with other parameters."""
    failure = evidence.candidate.failure
    if failure is not None and failure.at_load:
        return failed(f"while loading: {failure.message}", kind=failure.kind, detail=failure.detail[-800:])
    if failure is not None:
        return passed()
    wanted = [argument.name for argument in evidence.target.contract.args]
    found = evidence.candidate.told.signature
    if not isinstance(found, list):
        return passed(signature=found)  # a scripted function has none to read; whether it fits, calls tell
    # An operator of torch.library, a module or a decorated function takes whatever comes by position: likewise.
    takes_any = any(parameter.kind == _ANY for parameter in found)
    told = [parameter for parameter in found if not (takes_any and parameter.kind.startswith("VAR_"))]
    names = [parameter.name for parameter in told]
    odd = [f"{p.name} ({p.kind.lower().replace('_', ' ')})" for p in told if p.kind not in _POSITIONAL]
    if names != (wanted[: len(names)] if takes_any else wanted) or odd:
        reason = f"signature is ({', '.join(names)}), the contract asks for ({', '.join(wanted)})"
        return failed(reason + (f"; not positional: {', '.join(odd)}" if odd else ""))
    return passed()


def runs(evidence: Comparisons) -> CheckResult:
    """Catches a kernel that dies instead of answering: a crash, a hang, too much memory, an exception on a call that
    the trainer makes."""
    failure = evidence.candidate.failure
    if failure is not None:
        return failed(f"{failure.stage}: {failure.message}", kind=failure.kind, detail=failure.detail[-800:])
    # Odd and held-out calls have checks of their own, where a declared limit may be told from a fault.
    for case in evidence.cases:
        raised = evidence.error(case)
        if raised and case.group in ("accuracy", "gradients") and evidence.usable(case):
            reason = f"{case.id} ({case.shapes()}) raised {raised.type}: {raised.message}"
            return failed(reason, kind="exception", where=raised.where)
    return passed(cases=len(evidence.cases))
