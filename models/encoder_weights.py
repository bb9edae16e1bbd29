"""Pretrained weights of the 2DNet's encoder: files of several origins, or a download."""

from collections.abc import Collection
from pathlib import Path

from easydict import EasyDict
from torch import Tensor, nn

from errors import InputError, one_line
from models.checkpoints import load_strictly, renamed
from models.image_net import SKETCH_ENCODERS, SegmenterHead, library_encoder
from models.safe_load import read_file
from models.wrappings import part_of, state_of

# The classifiers of SegFormer, torchvision's ResNet and MobileNet, which the 2DNet does not have.
CLASSIFIER_KEYS = ("head.", "fc.", "classifier.")
RESNET_ENTRIES = ("conv1.weight", "layer1.0.conv1.weight", "layer4.0.conv1.weight")
# 3D-Sketch's names of the deep stem -> timm's.
DEEP_STEM = {
    "conv1.": "conv1.0.",
    "bn1.": "conv1.1.",
    "conv2.": "conv1.3.",
    "bn2.": "conv1.4.",
    "conv3.": "conv1.6.",
    "bn3.": "bn1.",
}


def _encoder_part(state: dict[str, Tensor], names: Collection[str], path: str) -> dict[str, Tensor]:
    """An encoder's weights under the names of its network, without wrapping or classifier.

    state: all that a file holds, of which the encoder may be but a part; names: some or all of the
    encoder's entries.
    """
    state = part_of(state, names.__contains__, path)
    return {key: value for key, value in state.items() if not key.startswith(CLASSIFIER_KEYS)}


def stem_of_weights(cfg: EasyDict) -> str:
    """The encoder whose stem fits a ResNet50 file: `conv1.weight` is 3x3 deep or 7x7 plain.

    cfg: the `model` settings. Returns `tu-resnet50s` or `resnet50` where model.pretrained is such a
    file, else model.encoder.
    """
    if cfg.encoder not in SKETCH_ENCODERS or not Path(cfg.pretrained).is_file():
        return cfg.encoder
    path = cfg.pretrained
    state = _encoder_part(state_of(read_file(path), path), RESNET_ENTRIES, path)
    if "conv1.weight" not in state:
        raise InputError(f"{path} has no conv1.weight: not a ResNet50's weights")
    return "resnet50" if state["conv1.weight"].shape[-1] == 7 else "tu-resnet50s"


def names_a_file(pretrained: str) -> bool:
    """Whether model.pretrained is a file, rather than the name of weights to download."""
    suffixes = (".pth", ".pt", ".tar", ".bin", ".ckpt", ".safetensors")
    return pretrained.endswith(suffixes) or "/" in pretrained or "\\" in pretrained


def load_pretrained_encoder(net: nn.Module, name: str, pretrained: str) -> None:
    """Fill the encoder `name` of a network with pretrained weights; of a SegmenterHead all of it.

    net: a Net2D, or a network of segmentation-models-pytorch; pretrained: a file (SegFormer's
    mit_b*.pth, torchvision's or 3D-Sketch's ResNet50, or any in which the names of the encoder's
    entries are found, under one prefix), the name of weights that segmentation-models-pytorch
    downloads (`imagenet`), or `none`.
    """
    if pretrained == "none":
        return
    head = getattr(net, "head", None)
    keeps_decoder = isinstance(head, SegmenterHead)
    if names_a_file(pretrained):
        names = net.encoder.state_dict().keys()
        if name.startswith("tu-"):  # within another module
            names = {key.removeprefix("model.") for key in names}
        whole = state_of(read_file(pretrained), pretrained)
        state = _encoder_part(whole, names, pretrained)
        if "conv3.weight" in state:
            state = {renamed(key, DEEP_STEM): value for key, value in state.items()}
        if name.startswith("tu-"):
            state = {f"model.{key}": value for key, value in state.items()}
        load_strictly(net.encoder, state, pretrained)
        if keeps_decoder:
            _load_decoder(head, whole, pretrained)
        return
    if keeps_decoder:
        raise InputError(
            f"model.pretrained={pretrained}: model.head=segmenter keeps a trained decoder: give a "
            "file of runs/pretrain_encoder.py"
        )
    try:
        weights = True if name.startswith("tu-") else pretrained
        encoder = library_encoder(name, weights=weights)
    except Exception as error:  # no network, no such weights: the hub's clients raise many types
        raise InputError(
            f"model.pretrained={pretrained}: no weights of that name for {name} could be "
            f"downloaded ({one_line(error)}); give a file, or none"
        ) from error
    load_strictly(net.encoder, encoder.state_dict(), f"model.pretrained={pretrained}")


def _load_decoder(head: SegmenterHead, state: dict[str, Tensor], path: str) -> None:
    for prefix, part in (("decoder.", head.decoder), ("segmentation_head.0.", head.classes)):
        own = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
        load_strictly(part, own, path)
