"""The device of every tensor, on a GPU that is not there: PyTorch's fake CUDA tensors.

They have shapes, types and devices, but no numbers: an operation on tensors of two devices fails as
on a GPU. Without a driver autograd refuses them, so everything runs without gradients.
"""

import contextlib
import copy

import numpy as np
import pytest
import torch
from raw_scene import camera_pose
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from config import load_config
from datasets.geometry import NYU_INTRINSICS, Frame, grid_origin
from datasets.tsdf import frame_tsdf
from datasets.voxels import frame_mapping
from models import build_model, prepare_for_inference
from models.losses import LossCounts, Targets, distillation_losses, supervised_losses
from models.projection import Surface
from utils.distributed import autocast

CUDA = torch.device("cuda", 0)
PRESETS = ("nyu_segformer_b2", "nyu_resnet50", "nyu_small")
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
FOUND = 700  # how many pixels or voxels any search finds


class FixedSizes(TorchDispatchMode):
    """Fake tensors cannot tell how many elements are found: always as many."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name == "nonzero":
            return args[0].new_zeros((FOUND, args[0].ndim), dtype=torch.int64)
        if name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1]):
            return args[0].new_zeros(FOUND)
        return function(*args, **(kwargs or {}))


@contextlib.contextmanager
def fake_cuda():
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), FixedSizes():
        try:
            torch.zeros(2, device=CUDA) + 1
        except (RuntimeError, AssertionError) as error:
            pytest.skip(f"no fake CUDA tensors without a driver in this PyTorch: {error}")
        yield


def on_cuda(model):
    """A call of the network whose weights are fake ones on the GPU."""
    state = {
        name: torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=CUDA)
        for name, value in model.state_dict().items()
    }
    return lambda *inputs: functional_call(model, state, inputs)


def inputs_of(batch_size):
    image = torch.zeros(batch_size, 3, 480, 640, device=CUDA)
    mapping2d = torch.zeros(batch_size, 480, 640, dtype=torch.int64, device=CUDA)
    return image, mapping2d, torch.zeros(batch_size, 1, 60, 36, 60, device=CUDA)


@pytest.fixture(scope="module", params=PRESETS)
def networks(request):
    """A network of the preset, and one prepared for inference."""
    model = build_model(load_config(f"configs/{request.param}.yaml").model)
    return model, prepare_for_inference(copy.deepcopy(model))


@pytest.mark.parametrize("precision", DTYPES)
def test_outputs_losses_and_inference(networks, precision, monkeypatch):
    monkeypatch.setattr("models.ssc_net.draw_flips", lambda: (True, True))
    # Without a driver autocast would be off.
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    model, prepared = networks
    with fake_cuda():
        image, mapping2d, tsdf = inputs_of(2)
        with autocast(CUDA, precision):
            view = Surface.of(mapping2d)
            out = on_cuda(model.train())(image, view, tsdf)
            teacher_out = on_cuda(prepared)(image, view, tsdf)
        labels = torch.zeros(2 * FOUND, dtype=torch.int64, device=CUDA)
        counts = LossCounts(*(torch.full((), 2, device=CUDA) for _ in range(3)))
        targets = Targets(labels, labels, None, [FOUND, FOUND], labels[:FOUND], counts)
        # Without lovasz, whose library asks for each class whether it is there.
        names = "loss_3d", "loss_2d", "affinity"
        losses = supervised_losses(out, targets, 0.2, 0.4, names)
        losses |= distillation_losses(out, teacher_out, targets)
        assert len(losses) == 6 and {loss.device for loss in losses.values()} == {CUDA}
        assert out.logits.shape == (2, 12, 60, 36, 60)
        assert str(out.tsdf_feature.dtype)[6:] == DTYPES[precision]


def test_a_tensor_on_the_wrong_device_is_found(networks, monkeypatch):
    """Planted: indices that are made on the CPU, as is forgotten most easily."""
    arange = torch.arange
    monkeypatch.setattr(torch, "arange", lambda *n, device=None, **how: arange(*n, **how))
    with fake_cuda(), pytest.raises(RuntimeError, match="device"):
        on_cuda(networks[1])(*inputs_of(1))


def test_a_frame_becomes_volumes_on_the_gpu():
    pose = camera_pose(pitch=15)
    frame = Frame(np.ones((480, 640)), NYU_INTRINSICS, pose, grid_origin(pose), device=CUDA)
    with fake_cuda():
        frame.metres = torch.zeros(480, 640, device=CUDA)  # a copy asks for a driver
        for volume in frame_tsdf(frame), frame_mapping(frame):
            assert volume.shape == (60, 36, 60) and volume.device == CUDA
