"""Job `throughput`: see autoresearch_trainer.probe.throughput."""

from functools import partial

from autoresearch_cuda import engine
from autoresearch_cuda.probe import environment
from autoresearch_trainer.probe.throughput import measure

run = partial(measure, engine, environment.snapshot)
