"""Job `race`: see autoresearch_trainer.probe.race."""

from functools import partial

from autoresearch_mlx import engine
from autoresearch_mlx.probe import environment
from autoresearch_trainer.probe.race import race

run = partial(race, engine, environment.snapshot)
