"""Job `time`: several kernels of one target timed against each other in one process.

The order of the calls is that of autoresearch_trainer.probe.rounds. Every call gets fresh contents. The clock is bound
before any kernel is loaded. Raw times are returned; what they mean is decided elsewhere.
"""

import random
from pathlib import Path

from autoresearch_mlx import arrays as files
from autoresearch_mlx.kernel_files import Ops
from autoresearch_mlx.probe import Report
from autoresearch_mlx.probe.stopwatch import Call, Stopwatch, output_probe, peak_bytes
from autoresearch_mlx.process import prepare_process
from autoresearch_trainer.jobs.base import facts
from autoresearch_trainer.jobs.timing import OUTPUTS, TimeAnswer, TimeArgs
from autoresearch_trainer.probe.keeper import Keeper
from autoresearch_trainer.probe.rounds import Rounds
from autoresearch_trainer.probe.timing import contents_of, load_arm, measure, peaks


def run(args: TimeArgs, run_dir: Path, report: Report) -> TimeAnswer:
    """Time the arms on the workloads; see the PyTorch engine's job of this name.

    Raises:
        KernelError: a kernel does not load, or is not the one that was named.
    """
    watch = Stopwatch()
    settings = prepare_process()
    rng = random.Random(args.seed)
    rng.randrange(1 << 31)
    calls = _calls(args)
    arms = [load_arm(args, place, Ops) for place in range(len(args.arms))]
    rounds = Rounds(watch, arms, calls, rng, Keeper(args.checked, rng, output_probe(rng)))

    measured = measure(rounds, args, report)
    files.save(rounds.keeper.tensors(rounds.repeat, reference=0), run_dir / OUTPUTS)
    peak = peaks(rounds, peak_bytes) if args.memory else None
    return TimeAnswer(**measured, peak_bytes=peak, process=facts(settings), repeats=watch.repeats)


def _calls(args: TimeArgs) -> list[Call]:
    contents = files.load(Path(args.inputs))
    return [Call(workload, contents_of(workload, contents)) for workload in args.workloads]
