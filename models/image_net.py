"""2DNet: an encoder of segmentation-models-pytorch and a light head."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from constants import IMAGE_SIZE, NUM_CLASSES
from errors import InputError, one_line
from models.recompute import Recomputed

SEGMENTER_WIDTH, SEGMENTER_CLASSES = 64, 39  # of what runs/pretrain_encoder.py trains
SKETCH_ENCODERS = ("tu-resnet50s", "resnet50")  # deep stem as in 3D-Sketch; torchvision's stem


def library_encoder(name: str, **settings: object) -> nn.Module:
    """An encoder of segmentation-models-pytorch, which takes seconds to import."""
    import segmentation_models_pytorch as smp

    return smp.encoders.get_encoder(name, **settings)


def _encoder(name: str) -> nn.Module:
    try:
        encoder = library_encoder(name, weights=None)
        # Without data: some encoders accept one image size only, or have other strides.
        probe = copy.deepcopy(encoder).eval().to("meta")
        levels = probe(torch.zeros(1, 3, *IMAGE_SIZE, device="meta"))[-4:]
    except Exception as error:  # each encoder family of the library raises its own types
        raise InputError(
            f"model.encoder={name}: segmentation-models-pytorch has no such encoder for images of "
            f"640x480 ({one_line(error)})"
        ) from error
    rows = [level.shape[2] for level in levels if level.shape[1] > 0]
    if rows != [IMAGE_SIZE[0] // stride for stride in (4, 8, 16, 32)]:
        raise InputError(f"model.encoder={name} does not have four levels at strides 4 to 32")
    return encoder


def _sketch_resnet50(name: str) -> nn.Module:
    """ResNet50 with output stride 16 and the dilations 2, 4, 8 that 3D-Sketch gives to layer4."""
    if name not in SKETCH_ENCODERS:
        raise InputError(
            f"model.head=sketch needs model.encoder={' or '.join(SKETCH_ENCODERS)}, not {name}"
        )
    encoder = library_encoder(name, weights=None, output_stride=16)
    layer4 = encoder.model.layer4 if name.startswith("tu-") else encoder.layer4
    for block, dilation in zip(layer4, (2, 4, 8), strict=True):
        block.conv2.dilation = block.conv2.padding = (dilation, dilation)
    return encoder


class SegFormerHead(Recomputed):
    """The light head of SegFormer: one linear layer per level, fuse, classify.

    channels: of the four levels at strides 4, 8, 16, 32; width: that of the features, f.
    """

    feature_align_corners = False
    logits_align_corners = True

    def __init__(self, channels: list[int], width: int) -> None:
        super().__init__()
        self.linear = nn.ModuleList(nn.Linear(c, width) for c in channels)
        self.dropout = nn.Dropout(0.5)
        self.fuse = nn.Sequential(
            nn.Conv2d(4 * width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.classifier = nn.Conv2d(width, NUM_CLASSES, 1)

    def compute(self, levels: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Four levels (B, C, h, w) -> features (B, f, h, w) >= 0, logits (B, 12, h, w)."""
        size = levels[0].shape[2:]
        maps = []
        for linear, level in zip(self.linear, levels, strict=True):
            x = F.conv2d(level, linear.weight[..., None, None], linear.bias)
            if x.shape[2:] != size:
                # Autocast resizes in fp32, to which all maps would be joined.
                x = F.interpolate(x, size, mode="bilinear", align_corners=False).to(x.dtype)
            maps.append(x)
        feature = self.fuse(self.dropout(torch.cat(maps[::-1], dim=1)))
        return feature, self.classifier(feature)


class SketchHead(nn.Module):
    """The head of 3D-Sketch on the last level of a ResNet50, and our classifier for the 2D loss."""

    feature_align_corners = True
    logits_align_corners = True

    def __init__(self, channels: list[int], width: int) -> None:
        super().__init__()
        self.reduce = nn.Sequential(
            nn.Conv2d(channels[-1], width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.classifier = nn.Conv2d(width, NUM_CLASSES, 1)

    def forward(self, levels: list[Tensor]) -> tuple[Tensor, Tensor]:
        """As SegFormerHead; the maps have the size of the last level."""
        feature = self.reduce(levels[-1])
        return feature, self.classifier(feature)


class SegmenterHead(nn.Module):
    """Decoder and classifier of a UPerNet that was trained to segment images, and a layer on both.

    What runs/pretrain_encoder.py learnt from labelled images stays whole: the decoder's features
    and the 39 class probabilities of NYU-40 become the features of the 2DNet. Decoder and `classes`
    are frozen.
    """

    feature_align_corners = False
    logits_align_corners = True

    def __init__(self, channels: list[int], width: int) -> None:
        from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder

        super().__init__()
        # The two finest levels, which the decoder leaves out, are none.
        self.decoder = UPerNetDecoder([0, 0, *channels], decoder_channels=SEGMENTER_WIDTH)
        self.classes = nn.Conv2d(SEGMENTER_WIDTH, SEGMENTER_CLASSES, 1)
        self.fuse = nn.Sequential(
            nn.Conv2d(SEGMENTER_WIDTH + SEGMENTER_CLASSES, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.classifier = nn.Conv2d(width, NUM_CLASSES, 1)
        self.decoder.requires_grad_(False)
        self.classes.requires_grad_(False)

    def train(self, mode: bool = True) -> "SegmenterHead":
        super().train(mode)
        self.decoder.eval()
        return self

    def forward(self, levels: list[Tensor]) -> tuple[Tensor, Tensor]:
        """As SegFormerHead."""
        x = self.decoder([None, None, *levels])
        probabilities = self.classes(x).softmax(dim=1).to(x.dtype)
        feature = self.fuse(torch.cat([x, probabilities], dim=1))
        return feature, self.classifier(feature)


HEADS = {"segformer": SegFormerHead, "sketch": SketchHead, "segmenter": SegmenterHead}


class Net2D(nn.Module):
    """2DNet (paper section 3.1): image to a feature map and a logit map of lower resolution.

    Image (B, 3, 480, 640), ImageNet-normalised RGB -> features (B, f, h, w), logits (B, 12, h, w).

    encoder is a name of segmentation-models-pytorch; head "segformer", "sketch" for the paper's
    ResNet50 (`tu-resnet50s` or `resnet50`), or "segmenter"; the image is resized by image_scale
    before the encoder.
    With `freeze`, the head is trained alone. As in the paper, a frozen encoder's stochastic depth
    stays active in training. Its batch norms use their running statistics, but for the sketch head,
    where they are updated as in 3D-Sketch.
    """

    def __init__(
        self, encoder: str, head: str, width: int, freeze: bool, image_scale: float
    ) -> None:
        super().__init__()
        self.encoder = _sketch_resnet50(encoder) if head == "sketch" else _encoder(encoder)
        channels = list(self.encoder.out_channels)[-4:]
        self.head = HEADS[head](channels, width)
        self.freeze = freeze
        self.image_scale = image_scale
        self.encoder.requires_grad_(not freeze)

    def train(self, mode: bool = True) -> "Net2D":
        super().train(mode)
        if self.freeze and not isinstance(self.head, SketchHead):
            for module in self.encoder.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        if self.image_scale != 1:
            image = F.interpolate(
                image, scale_factor=self.image_scale, mode="bilinear", antialias=True
            )
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze):
            levels = self.encoder(image)[-4:]
        return self.head(levels)
