"""The seam between this engine and `kernels/<target>/`; kernel files that are composed of others use its `part`."""

from autoresearch_trainer.seam import KERNELS_ROOT, Kernel, KernelFile, Seam, content_hash, load_kernel

__all__ = [
    "BASELINE",
    "KERNELS_ROOT",
    "SEAM",
    "TARGETS",
    "Kernel",
    "KernelFile",
    "content_hash",
    "installed_kernel",
    "load_kernel",
    "part",
]

BASELINE = "torch_eager"

# The targets of this engine: what the model and the optimizer call, and the parts that those are composed of.
TARGETS = (
    "rms_norm",
    "rope",
    "attention_mask",
    "windowed_attention",
    "newton_schulz",
    "softcap_cross_entropy",
    "relu_squared",
    "value_gate",
    "residual_mix",
    "adamw_update",
    "muon_update",
    "qk_prelude",
    "residual_norm",
    "mlp",
    "loss_head",
)

SEAM = Seam(TARGETS, BASELINE)
installed_kernel, part = SEAM.installed_kernel, SEAM.part
