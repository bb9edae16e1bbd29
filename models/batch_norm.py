"""Batch norm of volumes: PyTorch's, with statistics that are precise in the channels-last layout.

On the CPU, PyTorch adds up the voxels of a channels-last volume one by one in single precision:
over 259,200 voxels that gets the variance wrong by 1e-4. Here the voxels are added up in blocks.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

BLOCK = 2**18  # values whose squares are added in single precision: 1 MB stays in the cache


def channel_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel of a channels-last volume (B, C, X, Y, Z).

    Returns two (C,) in double precision.
    """
    voxels = x.permute(0, 2, 3, 4, 1).reshape(-1, x.shape[1])
    blocks = voxels.split(max(BLOCK // x.shape[1], 1))
    centre = blocks[0].float().mean(dim=0)
    total, squares = (torch.zeros(x.shape[1], dtype=torch.float64) for _ in range(2))
    for block in blocks:
        shifted = block - centre
        total += shifted.sum(dim=0)
        squares += shifted.square_().sum(dim=0)
    shift = total / len(voxels)
    return centre + shift, (squares / len(voxels) - shift.square()).clamp(min=0)


class _Normalise(torch.autograd.Function):
    """Batch norm with given statistics of the batch, through which the gradient flows."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt())
        ctx.eps = eps
        return torch.native_batch_norm(x, weight, bias, mean, variance, False, 0.0, eps)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale = ctx.saved_tensors
        grads = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, None, None, mean, scale, True, ctx.eps, ctx.needs_input_grad[:3]
        )
        return *grads, None, None, None


class BatchNorm3d(nn.BatchNorm3d):
    """nn.BatchNorm3d, with precise statistics of channels-last volumes on the CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if not (
            self.training
            and x.device.type == "cpu"
            and x.is_contiguous(memory_format=torch.channels_last_3d)
        ):
            return super().forward(x)
        with torch.no_grad():
            mean, variance = channel_moments(x)
            count = x.numel() // x.shape[1]
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            unbiased = variance * (count / max(count - 1, 1))
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        moments = (moment.to(self.weight.dtype) for moment in (mean, variance))
        return _Normalise.apply(x, self.weight, self.bias, *moments, self.eps)
