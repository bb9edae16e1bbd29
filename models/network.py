"""The figure of the paper: 2DNet, projection, 3D-TSDFNet, sum, 3D-SSCNet."""

from typing import NamedTuple

from torch import Tensor, nn

from models.image_net import Net2D
from models.projection import Surface, add_rows, fill_holes, sample_bilinear
from models.ssc_net import SSCNet
from models.tsdf_net import TSDFNet


class SSCOutput(NamedTuple):
    logits: Tensor  # (B, 12, 60, 36, 60) voxel class logits, never flipped
    logits_2d: Tensor  # (P, 12) class logits at the mapped pixels, by sample, then raster order
    tsdf_feature: Tensor  # (B, f, 60, 36, 60), >= 0: what KD-T compares


class CleanerS(nn.Module):
    """The network of teacher and student alike."""

    def __init__(self, net_2d: Net2D, tsdf_net: TSDFNet, ssc_net: SSCNet) -> None:
        super().__init__()
        self.net_2d = net_2d
        self.tsdf_net = tsdf_net
        self.ssc_net = ssc_net

    def forward(
        self,
        image: Tensor,
        mapping2d: Tensor | Surface,
        tsdf: Tensor,
        flips: tuple[bool, bool] | None = None,
    ) -> SSCOutput:
        """From an image and the TSDF of its depth to class logits.

        image: (B, 3, 480, 640) float, ImageNet-normalised RGB; mapping2d: (B, 480, 640) int, flat
        voxel index of a pixel, -1 none, or its Surface; tsdf: (B, 1, 60, 36, 60) float in [-1, 1];
        flips: of the volume in 3D-SSCNet along (X, Z), None draws them in training.
        """
        feature, logits_2d = self.net_2d(image)
        view = Surface.of(mapping2d)
        head, full_size = self.net_2d.head, view.size[1:]
        seen = sample_bilinear(feature, view.pixels, full_size, head.feature_align_corners)
        logits_2d = sample_bilinear(logits_2d, view.pixels, full_size, head.logits_align_corners)
        surface = fill_holes(seen.index_select(0, view.winner), view.reach)

        tsdf_feature = self.tsdf_net(tsdf)
        logits = self.ssc_net(add_rows(tsdf_feature, surface, view.reach.near), flips)
        return SSCOutput(logits, logits_2d, tsdf_feature)
