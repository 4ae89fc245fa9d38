"""Configuration as data: the model's shape, the presets, and everything else that decides a training run."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from autoresearch_trainer.errors import ConfigError

COMPUTE_DTYPES = ("bfloat16", "float32")
MOST_SEED = 2**63 - 1  # what every engine's generator takes
SMOKE_TOKENS = 4096
HEAD_WIDTH = 128  # of every preset
MOST_LAYERS = 9999  # what a preset's name can say; a list has an entry for each
VALUE_GATE_CHANNELS = 32  # the value gate reads this many channels of its layer's input


@dataclass(frozen=True)
class GPTConfig:
    """Shape of the model. `window_pattern`: L = full causal, S = half the sequence; repeats over the layers."""

    sequence_len: int = 2048
    vocab_size: int = 8192
    n_layer: int = 8
    n_head: int = 4
    n_kv_head: int = 4
    n_embd: int = 512
    window_pattern: str = "SSSL"

    def __post_init__(self) -> None:
        for name in ("sequence_len", "vocab_size", "n_layer", "n_head", "n_kv_head", "n_embd"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} must be a positive integer, not {value!r}")
        if self.n_layer > MOST_LAYERS:
            raise ConfigError(f"n_layer must be at most {MOST_LAYERS}, not {self.n_layer}")
        if self.n_embd % self.n_head or self.head_dim % 2:
            raise ConfigError(f"n_embd {self.n_embd} does not divide into {self.n_head} heads of even width")
        if self.n_head % self.n_kv_head:
            raise ConfigError(f"n_head {self.n_head} is not a multiple of n_kv_head {self.n_kv_head}")
        if self.n_embd < VALUE_GATE_CHANNELS:
            raise ConfigError(f"n_embd {self.n_embd} is below the {VALUE_GATE_CHANNELS} channels of the value gate")
        if not self.window_pattern or set(self.window_pattern) - set("SL"):
            raise ConfigError(f"window_pattern must be letters S and L, not {self.window_pattern!r}")

    @property
    def head_dim(self) -> int:
        return self.n_embd // self.n_head

    def windows(self) -> tuple[int, ...]:
        """Per layer, how many earlier positions a query sees besides itself. The last layer is always full."""
        reach = {"L": self.sequence_len, "S": self.sequence_len // 2}
        letters = [self.window_pattern[i % len(self.window_pattern)] for i in range(self.n_layer)]
        return tuple(reach[letter] for letter in [*letters[:-1], "L"])

    def value_embed_layers(self) -> tuple[int, ...]:
        """Every second layer, counted so that the last one is in."""
        return tuple(i for i in range(self.n_layer) if i % 2 == (self.n_layer - 1) % 2)


@dataclass(frozen=True)
class Preset:
    """A model and its batch. Batch: sequences per forward pass; tokens: per optimizer step, after accumulation.

    eval_tokens: of the evaluation at the end. reference_tokens: of the rung that runs are compared on (None: the same).
    data_centre: (batch, tokens per step) instead, on a GPU whose memory holds that batch. eval_batch_size: sequences
    per batch of the evaluation (None: batch_size).
    """

    model: GPTConfig
    batch_size: int
    total_batch_tokens: int
    eval_tokens: int
    reference_tokens: int | None = None
    data_centre: tuple[int, int] | None = None
    eval_batch_size: int | None = None

    @property
    def evaluated_batch(self) -> int:
        return self.eval_batch_size or self.batch_size


def _preset(
    seq: int, depth: int, width: int, batch: int, tokens: int, window: str, eval_tokens: int, **others: Any
) -> Preset:
    heads = width // HEAD_WIDTH
    return Preset(GPTConfig(seq, 8192, depth, heads, heads, width, window), batch, tokens, eval_tokens, **others)


_CPU_EVAL, _SMALL_EVAL, _FULL_EVAL = 204_800, 3 * 524_288, 40 * 524_288

#                         T  depth width batch tokens/step window
PRESETS: dict[str, Preset] = {
    "cpu-nano": _preset(256, 2, 128, 8, 2048, "SSSL", _CPU_EVAL),
    "cpu-tiny": _preset(512, 4, 256, 4, 2048, "SSSL", _CPU_EVAL),
    "m5-tiny": _preset(256, 2, 128, 4, 12288, "L", _SMALL_EVAL),
    "m5-small": _preset(512, 4, 256, 4, 12288, "L", _SMALL_EVAL),
    "m5-balanced": _preset(1024, 6, 384, 4, 12288, "SSSSL", _SMALL_EVAL),
    "m5-large": _preset(512, 8, 512, 4, 16384, "SSSSL", _SMALL_EVAL),
    "m5-xlarge": _preset(2048, 8, 512, 4, 16384, "L", _SMALL_EVAL),
    "upstream": _preset(
        2048, 8, 512, 8, 65536, "SSSL", _FULL_EVAL, reference_tokens=_SMALL_EVAL, data_centre=(128, 2**19)
    ),
}


# A preset of another depth, width and tokens per step, in this order, as `kernel-lab fit` names them.
_RESHAPED = re.compile(r"(?P<base>.+?)(-d(?P<depth>\d{1,4}))?(-w(?P<width>\d{1,6}))?(-t(?P<tokens>\d{1,9}))?")


def preset(name: str) -> Preset:
    """The preset of that name, or of a name such as cpu-nano-d3-w192-t1024: the same with another depth, width and
    tokens per step. Vocabulary, sequence length and evaluation are always those of the preset.

    Raises ConfigError with the known names.
    """
    if name in PRESETS:
        return PRESETS[name]
    found = _RESHAPED.fullmatch(name)
    base = PRESETS.get(found["base"]) if found else None
    if found is None or base is None:
        raise ConfigError(
            f"unknown preset {name!r}; known: {', '.join(PRESETS)}, each also as NAME-dDEPTH-wWIDTH-tTOKENS"
        )
    shape, length = base.model, base.model.sequence_len
    depth, width, tokens = (int(found[part]) if found[part] else None for part in ("depth", "width", "tokens"))
    if depth is not None:
        shape = replace(shape, n_layer=depth)
    if width is not None:
        shape = replace(shape, n_embd=width, **_heads(width))
    if tokens is None:
        return replace(base, model=shape)
    rows = tokens // length
    if not rows or tokens % length:
        raise ConfigError(f"preset {name}: {tokens} tokens per step are no multiple of {length}, the sequence length")
    batch = max(batch for batch in range(1, base.batch_size + 1) if rows % batch == 0)
    others: dict[str, Any] = {"data_centre": None, "eval_batch_size": base.batch_size}
    return replace(base, model=shape, batch_size=batch, total_batch_tokens=tokens, **others)


def reshaped_name(name: str, depth: int, width: int, tokens: int) -> str:
    """What `preset` calls that shape of the preset `name`."""
    base = PRESETS[name]
    own_tokens = None if base.data_centre else base.total_batch_tokens
    parts = (("d", depth, base.model.n_layer), ("w", width, base.model.n_embd), ("t", tokens, own_tokens))
    return name + "".join(f"-{letter}{value}" for letter, value, own in parts if value != own)


def _heads(width: int) -> dict[str, Any]:
    return dict.fromkeys(("n_head", "n_kv_head"), max(1, width // HEAD_WIDTH))


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Exactly one of `time_budget` (seconds of counted steps) and `steps` ends it.

    Learning rates are those at width 768; all but the scalars' are scaled by (width / 768)^-0.5.
    `eval_batch_size`: eval_tokens are rounded down to whole batches of so many sequences (None: of batch_size), so that
    a batch that was fitted to the memory does not change what is evaluated. `eval_spread_over`: they are taken at equal
    distances from the first so many tokens of the validation split (None: they are the first ones).
    `peak_flops`: FLOP/s that this machine can reach, for MFU; None = unknown.
    """

    preset: str = "cpu-nano"
    model: GPTConfig = field(default_factory=lambda: PRESETS["cpu-nano"].model)
    batch_size: int = 8
    total_batch_tokens: int = 2048
    eval_tokens: int = _CPU_EVAL
    eval_batch_size: int | None = None
    eval_spread_over: int | None = None
    time_budget: float | None = 300.0
    steps: int | None = None
    seed: int = 42
    compute_dtype: str = "bfloat16"
    compile: bool = False
    peak_flops: float | None = None
    embedding_lr: float = 0.6
    unembedding_lr: float = 0.004
    matrix_lr: float = 0.04
    scalar_lr: float = 0.5
    weight_decay: float = 0.2
    adam_beta1: float = 0.8
    adam_beta2: float = 0.95
    warmup_ratio: float = 0.0
    warmdown_ratio: float = 0.5
    final_lr_fraction: float = 0.0

    def __post_init__(self) -> None:
        if (self.time_budget is None) == (self.steps is None):
            raise ConfigError("give exactly one of time_budget and steps")
        if self.time_budget is not None and not 0 < self.time_budget < math.inf:
            raise ConfigError(f"time_budget must be positive and finite, not {self.time_budget}")
        if not 0 <= self.seed <= MOST_SEED:
            raise ConfigError(f"seed must be from 0 to {MOST_SEED}, not {self.seed}")
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"steps must be at least 1, not {self.steps}")
        for name in ("embedding_lr", "unembedding_lr", "matrix_lr", "scalar_lr", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be 0 or more and finite, not {getattr(self, name)}")
        for name in ("warmup_ratio", "warmdown_ratio", "final_lr_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be from 0 to 1, not {getattr(self, name)}")
        for name in ("adam_beta1", "adam_beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be 0 or more and below 1, not {getattr(self, name)}")
        if self.compute_dtype not in COMPUTE_DTYPES:
            raise ConfigError(f"unknown compute_dtype {self.compute_dtype!r}; known: {', '.join(COMPUTE_DTYPES)}")
        if self.batch_size < 1 or self.total_batch_tokens % self.micro_batch_tokens:
            raise ConfigError(
                f"total_batch_tokens {self.total_batch_tokens} is not a multiple of the {self.micro_batch_tokens} "
                f"tokens of a batch of {self.batch_size} sequences"
            )
        if self.eval_batch_size is not None and self.eval_batch_size < 1:
            raise ConfigError(f"eval_batch_size must be at least 1, not {self.eval_batch_size}")
        if self.eval_tokens < self.eval_batch_tokens:
            raise ConfigError(f"eval_tokens {self.eval_tokens} is less than one batch ({self.eval_batch_tokens})")

    @property
    def micro_batch_tokens(self) -> int:
        return self.batch_size * self.model.sequence_len

    @property
    def eval_batch_tokens(self) -> int:
        return (self.eval_batch_size or self.batch_size) * self.model.sequence_len

    @property
    def accumulation(self) -> int:
        """Forward and backward passes per optimizer step."""
        return self.total_batch_tokens // self.micro_batch_tokens

    @classmethod
    def for_preset(cls, name: str, **changes: Any) -> "TrainConfig":
        """The preset's configuration with some fields changed, those of the model included; naming `steps` takes the
        default time budget away.

        Raises ConfigError for an unknown preset or field, or for values that do not fit together.
        """
        base = preset(name)
        shape = {f.name: changes.pop(f.name) for f in fields(GPTConfig) if f.name in changes}
        unknown = set(changes) - {f.name for f in fields(cls)}
        if unknown:
            raise ConfigError(f"unknown training option: {', '.join(sorted(unknown))}")
        if shape:
            changes["model"] = replace(base.model, **shape)
        if changes.get("steps") is not None:
            changes.setdefault("time_budget", None)
        from_preset = ("model", "batch_size", "total_batch_tokens", "eval_tokens", "eval_batch_size")
        values = {name: getattr(base, name) for name in from_preset}
        return cls(**{"preset": name, **values, **changes})

    def smoke(self) -> "TrainConfig":
        """The same model for two steps of at most two small batches, and one of evaluation: does everything work here?

        Batches are cut to 4096 tokens, so that the largest preset takes seconds on a CPU too.
        """
        batch = self.batch_size
        while batch % 2 == 0 and batch * self.model.sequence_len > SMOKE_TOKENS:
            batch //= 2
        micro = batch * self.model.sequence_len
        total = micro * min(self.total_batch_tokens // micro, 2)
        return replace(
            self,
            time_budget=None,
            steps=2,
            batch_size=batch,
            total_batch_tokens=total,
            eval_tokens=micro,
            eval_batch_size=None,
        )

    def with_peak(self, flops: float) -> "TrainConfig":
        """The same run, with the machine's ceiling in FLOP/s."""
        return replace(self, peak_flops=flops)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "TrainConfig":
        """Inverse of to_json. Raises ConfigError for unknown or unfitting fields."""
        try:
            return cls(**{**value, "model": GPTConfig(**value["model"])})
        except (KeyError, TypeError) as error:
            raise ConfigError(f"not a training configuration: {error}") from error


# What --set may change; the rest has options of its own, or is what runs are compared by (vocabulary, sequence length).
_INTEGERS = ("n_layer", "n_head", "n_kv_head", "n_embd", "total_batch_tokens")
_TEXTS = ("window_pattern", "compute_dtype")
# Rates, decays and shares of the schedule: whatever they are, a step does the same work.
NUMBERS = tuple(one.name for one in fields(TrainConfig) if one.type is float)
_SETTABLE: dict[str, tuple[Callable[[str], Any], str]] = {
    **dict.fromkeys(_INTEGERS, (int, "an integer")),
    **dict.fromkeys(_TEXTS, (str, "a text")),
    **dict.fromkeys(NUMBERS, (float, "a number")),
}


def parse_changes(words: Iterable[str]) -> dict[str, Any]:
    """Fields to change from words such as `matrix_lr=0.03`. `depth` is n_layer; `width` is n_embd, with heads of 128.

    Raises ConfigError for an unknown name or a value that is none of its kind.
    """
    changes: dict[str, Any] = {}
    for word in words:
        name, _, text = word.partition("=")
        field_name = {"depth": "n_layer", "width": "n_embd"}.get(name, name)
        if field_name not in _SETTABLE:
            raise ConfigError(f"cannot set {name!r}; known: depth, width, {', '.join(_SETTABLE)}")
        kind, what = _SETTABLE[field_name]
        try:
            value = kind(text)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError
        except ValueError:
            raise ConfigError(f"{name} takes {what}, not {text!r}") from None
        changes[field_name] = value
        if name == "width":
            changes |= _heads(value)
    return changes
