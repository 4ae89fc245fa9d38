"""What can go wrong in this engine, and the exit code that a front door gives each case."""

import signal


class EngineError(Exception):
    """Base of the engine's own errors. The message is one line for the user; `exit_code` is for the front door."""

    exit_code = 1


class ConfigError(EngineError):
    """A bad preset, option or size: the user has to change the request."""

    exit_code = 2


class KernelError(EngineError):
    """A selected kernel is unknown, missing, or does not define what its target asks for."""

    exit_code = 2


class KernelChanged(KernelError):
    """The kernel file is not the one that was selected: its content hash differs."""


class KernelFailed(EngineError):
    """A selected kernel raised or declined in training, or returned what the trainer cannot use."""


class KernelWrong(EngineError):
    """A selected kernel's call was further from the baseline's than its contract allows, or changed what is not its
    own."""


class TrainingFailed(EngineError):
    """The loss became NaN or left the sane range, or the trained model has no val_bpb."""


class OutOfMemory(EngineError):
    """Memory ran out; the message says which batch would fit."""


class Interrupted(EngineError):
    """SIGINT or SIGTERM arrived; the run stopped between two steps. remark: where it can be continued, if it can."""

    def __init__(self, signum: int, step: int, remark: str = "") -> None:
        self.signum = signum
        self.step = step
        self.exit_code = 128 + signum
        super().__init__(f"interrupted by {signal.Signals(signum).name} after {step} steps{remark}")
