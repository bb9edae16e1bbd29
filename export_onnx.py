"""Export a trained network to ONNX, and check it with onnxruntime against PyTorch.

    python export_onnx.py --pretrained_path checkpoint/nyu_small_student.pth --output student.onnx

Inputs, of one frame:
    image    (1, 3, 480, 640) float32, ImageNet-normalised RGB
    mapping  (1, 60, 36, 60) int64, pixel v * 640 + u of a voxel, 307200 none
    tsdf     (1, 1, 60, 36, 60) float32 in [-1, 1]
Output: logits (1, 12, 60, 36, 60) float32, of the classes of constants.py. prepare_frame of
datasets/frames/frame.py makes the inputs from a frame of any camera, and known_labels of
datasets/voxels.py the labels.

The file is written only if no logit differs by more than 1e-4. Needs onnx, onnxscript and
onnxruntime.
"""

import argparse

from config import parse_settings
from errors import InputError, exit_on_input_error

TOLERANCE = 1e-4


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(description="Export a trained network to ONNX.")
    parser.add_argument("--pretrained_path", required=True, help="checkpoint, ours or original")
    parser.add_argument("--output", required=True, metavar="FILE.onnx")
    args = parse_settings(parser)
    # Imported here, as they take seconds: --help and a wrong word are answered at once.
    from models import prepare_for_inference
    from utils.checkpoint import read_network
    from utils.files import atomic_file
    from utils.onnx_export import export, largest_difference

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
