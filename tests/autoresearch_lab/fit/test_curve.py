"""The curve of a shape: it covers what is planted, and is unsure where little is known."""

import numpy as np

from autoresearch_lab.fit.curve import Point, forecast

SHAPES = "abcdef"
SECONDS = {"a": (4, 9, 22, 53, 53), "b": (9, 22, 53, 53), "c": (9, 22, 53)}


def world(seed: int):
    """(what was seen, what is asked for, the truth there) of six shapes of one exponent."""
    rng = np.random.default_rng(seed)
    exponent, seen, wanted, truth = rng.uniform(0.1, 0.4), [], [], []
    for shape in SHAPES:
        fall, level, speed = 1.5 * np.exp(rng.normal(0, 0.1)), rng.normal(0.6, 0.1), 34e3 * rng.uniform(0.4, 1.1)

        def bpb(tokens: float, fall: float = fall, level: float = level) -> float:
            return level + fall * (tokens / 2e5) ** -exponent

        for seconds in SECONDS.get(shape, (9,)):
            seen.append((Point(shape, seconds * speed), bpb(seconds * speed) + rng.normal(0, 0.0065)))
        wanted.append(Point(shape, 300 * speed))
        truth.append(bpb(300 * speed))
    return seen, wanted, truth


def test_the_bounds_hold_the_truth_and_more_trainings_make_them_narrower():
    inside, widths = [], []
    for seed in range(120):
        seen, wanted, truth = world(seed)
        found = forecast(seen, wanted)
        bounds = [found.bounds(index) for index in range(len(SHAPES))]
        inside.append([low < value < high for (low, _, high), value in zip(bounds, truth, strict=True)])
        widths.append([high - low for low, _, high in bounds])
    assert np.min(np.mean(inside, axis=0)) > 0.88, "95 % are stated"
    mean = np.mean(widths, axis=0)
    assert mean[0] < 0.1 and np.all(mean[3:] > 3 * mean[2])


def test_differences_of_two_shapes_are_surer_than_each_of_them():
    covered = []
    for seed in range(60):
        seen, wanted, truth = world(seed)
        found = forecast(seen, wanted)
        low, mean, high = found.difference(1, 0)
        covered.append(low < truth[1] - truth[0] < high)
        assert abs(mean - (found.mean[1] - found.mean[0])) < 1e-12
    assert np.mean(covered) > 0.85
