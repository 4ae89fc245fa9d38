"""What the check `bounds` makes of the sanitized process."""

from __future__ import annotations

import types
from typing import Any, cast

import pytest

from autoresearch_lab.sandbox.parent import Kind
from autoresearch_lab.verify.checks import bounds
from autoresearch_lab.verify.comparisons import Comparisons
from autoresearch_lab.verify.exchange import Answers, Failure
from autoresearch_lab.verify.sanitized import Sanitized
from autoresearch_lab.verify.sanitizer_report import Overrun
from autoresearch_trainer.jobs.calls import CallAnswer, NoopAnswer

OVERRUN = Overrun("heap-buffer-overflow", "reads 4 bytes right past the end of a block of 64 bytes")
ANSWER = CallAnswer(
    signature=[], loaded=[], changed=[], native=[], noop=NoopAnswer(functions=[], calls=0), cases=[]
)  # fmt: skip


def _check(sanitized: Sanitized | None) -> tuple[str, str]:
    found = bounds.check(cast(Comparisons, cast(Any, types.SimpleNamespace(sanitized=sanitized))))
    return found.status, found.reason


def _ended(kind: Kind, stage: str, overrun: Overrun | None = None) -> Sanitized:
    return Sanitized(answers=Answers(failure=Failure(kind, "ended with status 1", stage)), overrun=overrun)


def test_without_cpp_there_is_nothing_to_check() -> None:
    assert _check(None)[0] == "not applicable"


def test_without_a_sanitizer_it_is_skipped() -> None:
    assert _check(Sanitized(obstacle="none here")) == ("skipped", "none here")


def test_a_process_that_answers_passes() -> None:
    assert _check(Sanitized(answers=Answers(answer=ANSWER))) == ("pass", "")


def test_a_report_fails_and_names_the_case() -> None:
    assert _check(_ended("protocol", "case odd/1", OVERRUN)) == ("fail", f"{OVERRUN.words} (case odd/1)")


@pytest.mark.parametrize("stage", ["start", "load"])
def test_what_happens_before_the_kernel_is_loaded_is_not_its_fault(stage: str) -> None:
    assert _check(_ended("protocol", stage))[0] == "skipped"


@pytest.mark.parametrize(("kind", "status"), [("timeout", "skipped"), ("memory", "skipped"), ("crash", "fail")])
def test_an_end_without_a_report(kind: Kind, status: str) -> None:
    assert _check(_ended(kind, "case odd/1"))[0] == status
