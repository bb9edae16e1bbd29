"""Activations that are computed again in the backward pass instead of being kept."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

KEPT_A_SCENE = 3e9  # bytes for the backward pass, at width 256 in fp32; tests count them


class Recomputed(nn.Module):
    """A module that keeps, if asked to, only its input for the backward pass.

    What is inside is then computed again there: gradients and batch statistics are the same.
    Subclasses have their forward pass in `compute`.
    """

    recompute = False  # set by recompute_activations

    def forward(self, x: Tensor | list[Tensor]) -> Tensor | tuple[Tensor, ...]:
        if not (self.recompute and self.training and torch.is_grad_enabled()):
            return self.compute(x)
        return checkpoint(
            self.compute,
            x,
            use_reentrant=False,
            context_fn=lambda: (contextlib.nullcontext(), _statistics_kept(self)),
        )


@contextlib.contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """Batch norms use the statistics of the batch without adding them to the running ones."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked -= 1


def should_recompute(setting: str, device: torch.device, batch_size: int, width: int) -> bool:
    """By setting train.recompute: true, false, or auto.

    auto: but for a GPU that has twice the memory of what the backward pass would keep.
    """
    if setting != "auto" or device.type != "cuda":
        return setting != "false"
    kept = KEPT_A_SCENE * batch_size * width / 256
    return kept > torch.cuda.get_device_properties(device).total_memory / 2


def recompute_activations(model: nn.Module, recompute: bool) -> None:
    """Set whether the parts of a network that can do so keep only their inputs."""
    for module in model.modules():
        if isinstance(module, Recomputed):
            module.recompute = recompute
