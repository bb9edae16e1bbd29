"""A network as an ONNX file, and onnxruntime's difference from PyTorch (export_onnx.py)."""

import logging
import warnings
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from constants import GRID, IMAGE_SIZE, NO_PIXEL, NO_VOXEL, NUM_PIXELS, NUM_VOXELS
from errors import InputError
from models import dense
from models.network import CleanerS

OPSET = 18  # the first with the antialiased resizing that model.image_scale asks for
INPUTS = ("image", "mapping", "tsdf")


class VoxelwiseNetwork(nn.Module):
    """The network with the mapping given by voxel, and tensors of fixed shapes, as ONNX wants."""

    def __init__(self, model: CleanerS) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, mapping: Tensor, tsdf: Tensor) -> Tensor:
        """Shapes and values as in export_onnx.py; returns logits."""
        feature, _ = self.model.net_2d(image)
        align_corners = self.model.net_2d.head.feature_align_corners
        volume = dense.middle(feature, mapping, align_corners, self.model.tsdf_net(tsdf))
        return self.model.ssc_net(volume)


def made_up_inputs(seed: int) -> dict[str, Tensor]:
    """image, mapping and tsdf of no scene at all, by seed; and mapping2d, which PyTorch takes."""
    rng = torch.Generator().manual_seed(seed)
    voxels = torch.randperm(NUM_VOXELS, generator=rng)[:5000]
    pixels = torch.randperm(NUM_PIXELS, generator=rng)[:5000]
    return {
        "image": torch.randn(1, 3, *IMAGE_SIZE, generator=rng),
        "mapping": torch.full((NUM_VOXELS,), NO_PIXEL).put_(voxels, pixels).view(1, *GRID),
        "mapping2d": torch.full((NUM_PIXELS,), NO_VOXEL).put_(pixels, voxels).view(1, *IMAGE_SIZE),
        "tsdf": 2 * torch.rand(1, 1, *GRID, generator=rng) - 1,
    }


def export(model: CleanerS) -> bytes:
    """The ONNX file of a network in evaluation mode. Raises InputError without the packages."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(f"{error}: pip install onnx onnxscript onnxruntime") from error
    inputs = made_up_inputs(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about its own parts
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            VoxelwiseNetwork(model).eval(), tuple(inputs[key] for key in INPUTS),
            input_names=INPUTS, output_names=["logits"],
            opset_version=OPSET, dynamo=True, verbose=False,
        )  # fmt: skip
    return program.model_proto.SerializeToString()


@torch.inference_mode()
def largest_difference(content: bytes, model: CleanerS, seeds: Iterable[int]) -> float:
    """Between the logits of onnxruntime and those of the network itself, on made-up inputs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    differences = []
    for seed in seeds:
        inputs = made_up_inputs(seed)
        (found,) = session.run(None, {key: inputs[key].numpy() for key in INPUTS})
        expected = model(inputs["image"], inputs["mapping2d"], inputs["tsdf"]).logits
        differences.append((torch.from_numpy(found) - expected).abs().max())
    return torch.stack(differences).max().item()
