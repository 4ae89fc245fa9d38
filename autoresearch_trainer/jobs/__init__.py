"""The jobs: what the lab asks of an engine and what it is told, one type each way.

A job runs in a process of its own and its answer comes from code that is not trusted: whoever receives one reads it
through `Job.read`, which refuses what is not an answer of that kind.
"""

from autoresearch_trainer.jobs.base import AnswerRefused, Job, JobAnswer, JobArgs, Progress, Report
from autoresearch_trainer.jobs.calls import CALL
from autoresearch_trainer.jobs.machine import CEILINGS, COMPILE, DESCRIBE, START
from autoresearch_trainer.jobs.timing import ONE_CALL, TIME
from autoresearch_trainer.jobs.tracing import GPUTRACE, PROFILE, TRACE
from autoresearch_trainer.jobs.training import CHECK, EVALUATE, THROUGHPUT, TRAIN

__all__ = ["KINDS", "AnswerRefused", "Job", "JobAnswer", "JobArgs", "Progress", "Report"]

KINDS: dict[str, Job] = {
    job.name: job
    for job in (
        *(START, DESCRIBE, CEILINGS, COMPILE),
        *(CALL, TIME, ONE_CALL),
        *(PROFILE, TRACE, GPUTRACE),
        *(THROUGHPUT, TRAIN, EVALUATE, CHECK),
    )
}
