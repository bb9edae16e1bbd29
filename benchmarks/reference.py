"""The plain dense formulation of the method: the oracle of the fast one, and what it is timed by.

As the specification says it, and mostly as the original computes it: contiguous volumes, a dense
volume that is pooled and masked, logits upsampled to 480x640, losses that broadcast every voxel
against every class centre, and a teacher whose graph is kept.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from constants import GRID, IGNORE_INDEX, NO_PIXEL, NO_VOXEL, NUM_VOXELS
from models import dense
from models.blocks import AveragePool
from models.network import CleanerS, SSCOutput
from models.ssc_net import draw_flips


def mapping_of(mapping2d: Tensor) -> Tensor:
    """The last pixel in raster order that has each voxel, (B, 60, 36, 60); 307200 none."""
    mapping = mapping2d.new_full((len(mapping2d), NUM_VOXELS), NO_PIXEL)
    for pixels, voxels in zip(mapping, mapping2d.flatten(1), strict=True):
        mapped = (voxels != NO_VOXEL).nonzero().squeeze(1)
        pixels[voxels[mapped]] = mapped
    return mapping.view(-1, *GRID)


class PlainCleanerS(CleanerS):
    """The network with the weights of a CleanerS, computed plainly."""

    def __init__(self, model: CleanerS) -> None:
        model = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
        super().__init__(model.net_2d, model.tsdf_net, model.ssc_net)
        self.train(model.training)
        for module in list(self.modules()):
            if isinstance(module, nn.Sequential) and isinstance(module[0], AveragePool):
                module[0] = nn.AvgPool3d(module[0].stride, module[0].stride)

    def forward(
        self,
        image: Tensor,
        mapping2d: Tensor,
        tsdf: Tensor,
        flips: tuple[bool, bool] | None = None,
    ) -> SSCOutput:
        feature, logits_2d = self.net_2d(image)
        align_corners = self.net_2d.head.feature_align_corners
        tsdf_feature = self.tsdf_net(tsdf)
        volume = dense.middle(feature, mapping_of(mapping2d), align_corners, tsdf_feature)
        flips = flips or (draw_flips() if self.training else (False, False))
        axes = [axis for axis, flip in zip((2, 4), flips, strict=True) if flip]
        logits = self.ssc_net.classifier(self.ssc_net.unet(volume.flip(axes))).flip(axes)
        align_corners, size = self.net_2d.head.logits_align_corners, mapping2d.shape[1:]
        logits_2d = F.interpolate(logits_2d, size, mode="bilinear", align_corners=align_corners)
        logits_2d = logits_2d.permute(0, 2, 3, 1)[mapping2d != NO_VOXEL]
        return SSCOutput(logits, logits_2d, tsdf_feature)


def losses(out: SSCOutput, teacher_out: SSCOutput | None, batch: dict) -> dict[str, Tensor]:
    """The losses of one process, as paper and specification write them."""
    volumes = batch["label3d"].flatten(1)
    weight = batch["label_weight"].flatten(1) & (volumes != IGNORE_INDEX)
    pixel_labels = torch.cat(
        [
            volume[pixels[pixels != NO_VOXEL]]
            for volume, pixels in zip(volumes, batch["mapping2d"].flatten(1), strict=True)
        ]
    )
    cross_entropy = nn.CrossEntropyLoss(ignore_index=IGNORE_INDEX, label_smoothing=0.2)
    rows = out.logits.flatten(2).transpose(1, 2)
    result = {
        "loss_3d": cross_entropy(rows[weight], volumes[weight]),
        "loss_2d": cross_entropy(out.logits_2d, pixel_labels),
    }
    if teacher_out is None:
        return result

    result["kd_t"] = ((out.tsdf_feature - teacher_out.tsdf_feature) ** 2).mean()
    teacher_rows = teacher_out.logits.flatten(2).transpose(1, 2)
    kd_sc, kd_sa = [], []
    for student, teacher, labels, voxels in zip(rows, teacher_rows, volumes, weight, strict=True):
        student, teacher, labels = student[voxels], teacher[voxels], labels[voxels]
        classes = [c for c in labels.unique().tolist() if c > 0]
        centre_s, centre_t = (
            torch.stack([logits[labels == c].mean(dim=0) for c in classes])
            for logits in (student, teacher)
        )
        divergence = F.kl_div(
            centre_s.log_softmax(dim=1), centre_t.softmax(dim=1), reduction="none"
        )
        kd_sc.append(divergence.sum(dim=1).mean())
        affinity_s, affinity_t = (
            F.cosine_similarity(logits[:, None], centres[None], dim=2, eps=1e-8)
            for logits, centres in ((student, centre_s), (teacher, centre_t))
        )
        kd_sa.append(F.mse_loss(affinity_s, affinity_t))
    return result | {"kd_sc": torch.stack(kd_sc).mean(), "kd_sa": torch.stack(kd_sa).mean()}
