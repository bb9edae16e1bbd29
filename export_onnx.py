"""Export a trained network to ONNX, and check it with onnxruntime against PyTorch.

    python export_onnx.py --pretrained_path checkpoint/nyu_small_student.pth --output student.onnx

Inputs, of one frame:
    image    (1, 3, 480, 640) float32, ImageNet-normalised RGB
    mapping  (1, 60, 36, 60) int64, pixel v * 640 + u of a voxel, 307200 none
    tsdf     (1, 1, 60, 36, 60) float32 in [-1, 1]
Output: logits (1, 12, 60, 36, 60) float32, of the classes of constants.py. prepare_frame of
datasets/frames/frame.py makes the inputs from a frame of any camera, and known_labels the labels.

The file is written only if no logit differs by more than 1e-4. Needs onnx, onnxscript and
onnxruntime.
"""

import argparse
import logging
import warnings
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from config import parse_settings
from constants import GRID, IMAGE_SIZE, NO_PIXEL, NO_VOXEL, NUM_PIXELS, NUM_VOXELS
from errors import InputError, exit_on_input_error
from models import dense, prepare_for_inference
from models.network import CleanerS
from utils.checkpoint import read_network
from utils.files import atomic_file

TOLERANCE = 1e-4
OPSET = 18  # the first with the antialiased resizing that model.image_scale asks for
INPUTS = ("image", "mapping", "tsdf")


class VoxelwiseNetwork(nn.Module):
    """The network with the mapping given by voxel, and tensors of fixed shapes, as ONNX wants."""

    def __init__(self, model: CleanerS) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, mapping: Tensor, tsdf: Tensor) -> Tensor:
        """Shapes and values as in the module's description; returns logits."""
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


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(description="Export a trained network to ONNX.")
    parser.add_argument("--pretrained_path", required=True, help="checkpoint, ours or original")
    parser.add_argument("--output", required=True, metavar="FILE.onnx")
    args = parse_settings(parser)
    model = prepare_for_inference(read_network(args.pretrained_path, args.overrides)[0])
    content = export(model)
    difference = largest_difference(content, model, seeds=(1, 2, 3))
    if not difference <= TOLERANCE:
        raise InputError(
            f"{args.output} not written: its logits differ by {difference:.1e} from PyTorch's; try "
            "other versions of onnx and onnxruntime"
        )
    with atomic_file(args.output) as file:
        file.write(content)
    print(f"written: {args.output}, {len(content) / 1e6:.1f} MB")
    print(f"largest difference from PyTorch on three made-up inputs: {difference:.1e}")


if __name__ == "__main__":
    main()
