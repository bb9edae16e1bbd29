"""3D convolutions that use PyTorch's fast kernels on the CPU too.

In float32, PyTorch takes its plain kernels, up to ten times slower than oneDNN's and in another
layout, where a batch holds one volume of few channels or voxels, or where one thread computes what
adds up nothing along Y and Z. Here a volume is then seen as a batch of parts or, where the kernel
allows it, in another shape; in channels-last volumes, mostly without a copy.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PLAIN_UP_TO = 20480  # channels * X * Y of a single volume, for which PyTorch takes a plain kernel


def _is_float32_on_cpu(x: Tensor) -> bool:
    on_cpu = x.device.type == "cpu" and x.dtype == torch.float32
    return on_cpu and not torch.compiler.is_exporting()


def _is_slow(x: Tensor) -> bool:
    return _is_float32_on_cpu(x) and len(x) == 1 and x.shape[1:4].numel() <= PLAIN_UP_TO


def _is_slow_along_x(x: Tensor) -> bool:
    return _is_slow(x) or (_is_float32_on_cpu(x) and torch.get_num_threads() == 1)


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 4, 1)


def _channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 4, 1, 2, 3)


def _slabs(x: Tensor, before: int, after: int) -> Tensor:
    """(1, C, X, Y, Z) -> (parts, C, X / parts + before + after, Y, Z): overlapping, zeros outside.

    As few parts as X can be divided into; one, if it is a large prime.
    """
    parts = next((n for n in (2, 3, 5, 7) if x.shape[2] % n == 0), 1)
    size = x.shape[2] // parts
    x = F.pad(x, (0, 0, 0, 0, before, after))
    return torch.cat([x[:, :, i * size : (i + 1) * size + before + after] for i in range(parts)])


def _joined(slabs: Tensor) -> Tensor:
    """(parts, C, x, Y, Z) -> (1, C, parts * x, Y, Z)."""
    return _channels_first(_channels_last(slabs).flatten(0, 1).unsqueeze(0))


class Conv3d(nn.Conv3d):
    """nn.Conv3d. Of kernels that extend along X and another axis, stride 1 and "same" padding."""

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel_size[1:] == (1, 1) and _is_slow_along_x(x):
            return self._along_x(x)
        if not _is_slow(x):
            return super().forward(x)
        if self.kernel_size[0] == 1:  # adds up nothing along X: its slices are a batch
            slices = _channels_first(_channels_last(x).flatten(0, 1).unsqueeze(1))
            return _joined(super().forward(slices))
        halo, *padding = self.padding
        slabs = _slabs(x, halo, halo)
        return _joined(F.conv3d(slabs, self.weight, self.bias, padding=(0, *padding)))

    def _along_x(self, x: Tensor) -> Tensor:
        """A kernel that extends along no other axis: a matrix product, or that of an image."""
        if self.kernel_size[0] == self.stride[0] == 1:
            return _channels_first(F.linear(_channels_last(x), self.weight.flatten(1), self.bias))
        image = _channels_last(x).flatten(2, 3).permute(0, 3, 1, 2)
        stride, padding, dilation = self.stride[:2], self.padding[:2], self.dilation[:2]
        out = F.conv2d(image, self.weight.squeeze(4), self.bias, stride, padding, dilation)
        return _channels_first(out.permute(0, 2, 3, 1).unflatten(2, x.shape[3:]))


class ConvTranspose3d(nn.ConvTranspose3d):
    """nn.ConvTranspose3d that doubles every axis: kernel 3, stride 2, padding and output padding 1.

    A value at i reaches 2 i - 1 to 2 i + 1, so that a part needs the first value behind it.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 3, stride=2, padding=1, output_padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if not _is_float32_on_cpu(x) or not torch.is_grad_enabled():
            return self._double(x, self.bias)
        # Apart from the kernel: oneDNN takes longer for the bias's gradient than for the weight's.
        out = self._double(x, None)
        return out + self.bias.to(out.dtype)[:, None, None, None]

    def _double(self, x: Tensor, bias: Tensor | None) -> Tensor:
        slow = _is_slow(x)
        if slow:
            x = _slabs(x, 0, 1)
        how = self.stride, self.padding, self.output_padding
        out = F.conv_transpose3d(x, self.weight, bias, *how)
        return _joined(out[:, :, :-2]) if slow else out
