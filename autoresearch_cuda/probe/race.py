"""Job `race`: see autoresearch_trainer.probe.race."""

from functools import partial

from autoresearch_cuda import engine
from autoresearch_cuda.probe import environment
from autoresearch_trainer.probe.race import race

run = partial(race, engine, environment.snapshot)
