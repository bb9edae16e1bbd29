"""Convolutions of single volumes: the results of double precision, without slow kernels."""

import pytest
import torch
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from models.convolution import PLAIN_UP_TO, Conv3d, ConvTranspose3d

CONVOLUTIONS = {
    "1x1x1": (Conv3d(16, 4, 1, bias=False), (15, 9, 15)),
    "Z, halved": (Conv3d(4, 4, (1, 1, 3), (1, 1, 2), (0, 0, 1)), (60, 36, 60)),
    "Y, dilated": (Conv3d(4, 4, (1, 3, 1), 1, (0, 2, 0), (1, 2, 1)), (30, 18, 30)),
    "X, halved": (Conv3d(16, 4, (3, 1, 1), (2, 1, 1), (1, 0, 0)), (60, 18, 30)),
    "X, dilated": (Conv3d(16, 4, (3, 1, 1), 1, (3, 0, 0), (3, 1, 1)), (15, 9, 15)),
    "3x3x3, two parts": (Conv3d(3, 8, 3, padding=1, bias=False), (60, 36, 60)),
    "3x3x3, one part": (Conv3d(8, 2, 3, padding=1), (11, 6, 5)),
    "doubling, two parts": (ConvTranspose3d(16, 8), (30, 18, 30)),
    "doubling, three parts": (ConvTranspose3d(16, 8), (15, 9, 15)),
}


def in_double(module, x):
    weight, bias = (None if p is None else p.double() for p in (module.weight, module.bias))
    if isinstance(module, ConvTranspose3d):
        return F.conv_transpose3d(x, weight, bias, 2, 1, 1)
    return F.conv3d(x, weight, bias, module.stride, module.padding, module.dilation)


@pytest.fixture(params=[1, 2])
def threads(request):
    """PyTorch chooses other kernels for one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("layout", [torch.channels_last_3d, torch.contiguous_format])
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_outputs_and_gradients(case, layout, batch):
    module, grid = CONVOLUTIONS[case]
    torch.manual_seed(0)
    x = torch.randn(batch, module.in_channels, *grid).contiguous(memory_format=layout)
    assert x.shape[1:4].numel() <= PLAIN_UP_TO
    results = []
    for convolve, leaf in ((module, x), (lambda x: in_double(module, x), x.double())):
        leaf = leaf.detach().requires_grad_()
        out = convolve(leaf)
        weights = torch.linspace(-1, 1, out.numel()).view_as(out)
        grads = torch.autograd.grad((out * weights).sum(), [leaf, *module.parameters()])
        results.append([out.detach(), *grads])
    assert results[0][0].shape == results[1][0].shape
    for value, expected in zip(*results, strict=True):
        # Gradients of weights are sums over all voxels of the batch, in single precision.
        assert (value - expected).abs().max() <= 2e-5 * batch * expected.abs().max()


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(
    "case",
    ["1x1x1", "Z, halved", "X, halved", "X, dilated", "3x3x3, two parts", "doubling, two parts"],
)
def test_no_slow_kernel(case, batch):
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch has no oneDNN")
    module, grid = CONVOLUTIONS[case]
    x = torch.randn(batch, module.in_channels, *grid)
    x = x.contiguous(memory_format=torch.channels_last_3d)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        out = module(x)
        out.sum().backward()
    names = {event.key for event in profiler.key_averages()}
    assert not {name for name in names if "slow_conv" in name}
    assert out.is_contiguous(memory_format=torch.channels_last_3d)
    module.zero_grad()
