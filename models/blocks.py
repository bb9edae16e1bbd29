"""The 3D building blocks that 3D-TSDFNet and 3D-SSCNet share.

Volumes are (B, C, X, Y, Z); kernels are given in the same order.
"""

import math

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from models.batch_norm import BatchNorm3d
from models.convolution import Conv3d, ConvTranspose3d
from models.recompute import Recomputed


class _WindowMeans(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, stride: tuple[int, int, int]) -> Tensor:
        ctx.stride = stride
        for axis, size in enumerate(stride, start=2):
            if size == 2:
                first, second = x.unflatten(axis, (-1, 2)).unbind(axis + 1)
                x = first + second
        return x / math.prod(stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        batch, channels, *coarse = grad.shape
        share = (grad / math.prod(ctx.stride)).permute(0, 2, 3, 4, 1)
        sizes = [size for pair in zip(coarse, ctx.stride, strict=True) for size in pair]
        windows = share[:, :, None, :, None, :, None].expand(batch, *sizes, channels)
        fine = [size * step for size, step in zip(coarse, ctx.stride, strict=True)]
        return windows.reshape(batch, *fine, channels).permute(0, 4, 1, 2, 3), None


class AveragePool(nn.Module):
    """Mean over windows of `stride` = (1 or 2, 1 or 2, 1 or 2) voxels that do not overlap.

    nn.AvgPool3d, but several times faster on the CPU, where it leaves the channels-last layout.
    """

    def __init__(self, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return _WindowMeans.apply(x, self.stride)


def _downsample(channels_in: int, channels_out: int, stride: tuple[int, int, int]) -> nn.Sequential:
    return nn.Sequential(
        AveragePool(stride),
        Conv3d(channels_in, channels_out, 1, bias=False),
        BatchNorm3d(channels_out),
    )


class DDRBlock(Recomputed):
    """Residual bottleneck with a 3x3x3 kernel decomposed into one convolution per axis.

    Dimensional decomposition residual block (DDRNet, CVPR 2019), as CleanerS uses it: along Z, then
    Y, then X, each result added to the next ones. `planes` is the number of channels inside, the
    dilation that of the decomposed convolutions; stride 2 halves every axis.
    """

    def __init__(
        self, channels_in: int, planes: int, channels_out: int, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        d, s = dilation, stride
        self.conv1 = Conv3d(channels_in, planes, 1, bias=False)
        self.bn1 = BatchNorm3d(planes)
        # Each with kernel, stride, padding and dilation along its axis.
        self.conv2 = Conv3d(planes, planes, (1, 1, 3), (1, 1, s), (0, 0, d), (1, 1, d), bias=False)
        self.bn2 = BatchNorm3d(planes)
        self.conv3 = Conv3d(planes, planes, (1, 3, 1), (1, s, 1), (0, d, 0), (1, d, 1), bias=False)
        self.bn3 = BatchNorm3d(planes)
        self.conv4 = Conv3d(planes, planes, (3, 1, 1), (s, 1, 1), (d, 0, 0), (d, 1, 1), bias=False)
        self.bn4 = BatchNorm3d(planes)
        self.conv5 = Conv3d(planes, channels_out, 1, bias=False)
        self.bn5 = BatchNorm3d(channels_out)
        self.stride = stride
        if stride != 1:
            self.downsample = _downsample(channels_in, channels_out, (s, s, s))
            self.downsample2 = _downsample(planes, planes, (1, s, 1))
            self.downsample3 = _downsample(planes, planes, (s, 1, 1))
            self.downsample4 = _downsample(planes, planes, (s, 1, 1))

    def compute(self, x: Tensor) -> Tensor:
        # In place where autograd needs no copy: what a batch norm returns is not kept by it.
        out1 = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out2 = self.bn2(self.conv2(out1))
        out3 = self.bn3(self.conv3(F.relu(out2)))
        if self.stride != 1:
            out2 = self.downsample2(out2)
        out3 += out2
        out4 = self.bn4(self.conv4(F.relu(out3)))
        if self.stride != 1:
            out2, out3 = self.downsample3(out2), self.downsample4(out3)
            x = self.downsample(x)
        out4 += out2
        out4 += out3
        out5 = self.bn5(self.conv5(F.relu(out4, inplace=True)))
        out5 += x
        return F.relu(out5, inplace=True)


def _stage(channels_in: int, first_planes: int, channels_out: int) -> nn.Sequential:
    """One halving block, then three of dilation 1, 2 and 3."""
    rest = [DDRBlock(channels_out, channels_out // 4, channels_out, dilation=d) for d in (1, 2, 3)]
    return nn.Sequential(DDRBlock(channels_in, first_planes, channels_out, stride=2), *rest)


def _upsample(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        ConvTranspose3d(channels_in, channels_out), BatchNorm3d(channels_out), nn.ReLU(inplace=True)
    )


class UNet3D(nn.Module):
    """Two halvings and two doublings with one skip connection; same size in and out.

    (B, f, X, Y, Z) -> (B, f, X, Y, Z), >= 0; width f, X, Y and Z are multiples of 4. There are 2f
    channels at the lowest resolution, and dropout behind the first doubling.
    """

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.down1 = _stage(width, width // 4, width)
        self.down2 = _stage(width, width // 4, 2 * width)
        self.up1 = _upsample(2 * width, width)
        self.dropout = nn.Dropout(dropout)
        self.up2 = _upsample(width, width)

    def forward(self, x: Tensor) -> Tensor:
        half = self.down1(x)
        quarter = self.down2(half)
        return self.up2(self.dropout(self.up1(quarter)) + half)
