"""3D-SSCNet: the sum of projected image features and TSDF features to voxel classes."""

import torch
from torch import Tensor, nn

from constants import NUM_CLASSES
from models.blocks import UNet3D


def draw_flips() -> tuple[bool, bool]:
    """Whether a training step flips X and Z: each with probability 0.5, the whole batch alike."""
    flip_x, flip_z = (torch.rand(2) > 0.5).tolist()
    return flip_x, flip_z


class SSCNet(nn.Module):
    """3D-SSCNet (paper section 3.1). In training, its input is flipped at random along X and Z.

    (B, f, 60, 36, 60) of width f -> logits (B, 12, 60, 36, 60), flipped back.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.unet = UNet3D(width)
        self.classifier = nn.Sequential(nn.Dropout3d(0.1), nn.Conv3d(width, NUM_CLASSES, 1))

    def forward(self, volume: Tensor, flips: tuple[bool, bool] | None = None) -> Tensor:
        """flips: (X, Z) to flip; None draws them in training and flips nothing in evaluation."""
        if flips is None:
            flips = draw_flips() if self.training else (False, False)
        axes = [axis for axis, flip in zip((2, 4), flips, strict=True) if flip]
        if not axes:
            return self._classify(self.unet(volume))
        return self._classify(self.unet(volume.flip(axes))).flip(axes)

    def _classify(self, x: Tensor) -> Tensor:
        dropout, classifier = self.classifier
        if not self.training:
            return classifier(x)
        # Dropping channels of the weights instead of the volume saves a copy of the volume.
        kept = dropout(x.new_ones(*x.shape[:2], 1, 1, 1)).flatten(1)  # (B, f)
        weights = kept.unsqueeze(2) * classifier.weight.flatten(1).T  # (B, f, 12)
        voxels = x.permute(0, 2, 3, 4, 1)
        logits = voxels.flatten(1, 3) @ weights.to(x.dtype) + classifier.bias.to(x.dtype)
        return logits.unflatten(1, voxels.shape[1:4]).permute(0, 4, 1, 2, 3)
