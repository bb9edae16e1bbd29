"""A network made ready for inference: fewer operations, the same predictions."""

import copy
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from constants import GRID, IMAGE_SIZE
from models.batch_norm import BatchNorm3d
from models.convolution import Conv3d, ConvTranspose3d
from models.image_net import SegFormerHead
from models.network import CleanerS
from models.ssc_net import SSCNet

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose3d, Conv3d, ConvTranspose3d)
BATCH_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d, BatchNorm3d, nn.SyncBatchNorm)


def prepare_for_inference(model: CleanerS) -> CleanerS:
    """Fold batch norms into convolutions, and the linear layers of the 2D head into each other.

    The network is changed in place, put into evaluation mode and no longer trainable. Its outputs
    are the same but for rounding. Calling it again changes nothing.
    """
    model.eval().requires_grad_(False)
    for convolution, norm in _folding_pairs(model):
        folded = model.get_submodule(norm)
        _fold(model.get_submodule(convolution), folded)
        # Those of timm drop and activate too.
        rest = [getattr(folded, name) for name in ("drop", "act") if hasattr(folded, name)]
        model.set_submodule(norm, nn.Sequential(*rest) if rest else nn.Identity())
    if isinstance(model.net_2d.head, SegFormerHead):
        model.net_2d.head = FoldedSegFormerHead(model.net_2d.head).eval().requires_grad_(False)
    return model


def _folding_pairs(model: CleanerS) -> list[tuple[str, str]]:
    """Names of the convolutions whose output goes into a batch norm, and of that batch norm.

    Found by running the network without data, so that encoders of every structure are covered.
    """
    from timm.layers import BatchNormAct2d, Conv2dSame, SyncBatchNormAct  # takes seconds

    convolutions = (*CONVOLUTIONS, Conv2dSame)
    batch_norms = (*BATCH_NORMS, BatchNormAct2d, SyncBatchNormAct)
    probe = copy.deepcopy(model).to("meta", torch.float32)  # weights may be cast, see below
    names = {module: name for name, module in probe.named_modules()}
    made_by, pairs = {}, []  # made_by: names by tensor, which is kept and known by its identity

    def note(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        if type(module) in convolutions:
            made_by[output] = names[module]
        elif module.track_running_stats and inputs[0] in made_by:
            pairs.append((made_by[inputs[0]], names[module]))

    for module in names:
        if type(module) in convolutions + batch_norms:
            module.register_forward_hook(note)
    volume = torch.zeros(1, 1, *GRID, device="meta")
    probe.net_2d(torch.zeros(1, 3, *IMAGE_SIZE, device="meta"))
    probe.ssc_net(probe.tsdf_net(volume))
    return pairs


def _fold(convolution: nn.Module, norm: nn.Module) -> None:
    of_norm = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    transpose = isinstance(convolution, nn.ConvTranspose3d)
    weight, bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, *of_norm, transpose=transpose
    )
    layout = torch.channels_last_3d if weight.ndim == 5 else torch.channels_last
    convolution.weight.data = weight.detach().contiguous(memory_format=layout)
    convolution.bias = nn.Parameter(bias.detach(), requires_grad=False)


def cast_weights(model: nn.Module, dtype: torch.dtype | None) -> None:
    """Cast, once, what autocast to `dtype` casts in every forward pass of a frozen network.

    Its outputs under autocast are the same, bit for bit. None: nothing is cast. A layer of another
    type may compute with its weights in its own way, and is left to autocast.
    """
    if dtype is not None:
        for module in model.modules():
            if type(module) in (*CONVOLUTIONS, nn.Linear):
                module.to(dtype)


class FlipMean(nn.Module):
    """3D-SSCNet's mean logits over the four flips of its input along X and Z."""

    def __init__(self, ssc_net: SSCNet) -> None:
        super().__init__()
        self.ssc_net = ssc_net

    def forward(self, volume: Tensor, flips: tuple[bool, bool] | None = None) -> Tensor:
        """As SSCNet; flips: is not looked at."""
        return sum(self.ssc_net(volume, flips) for flips in product((False, True), repeat=2)) / 4


class FoldedSegFormerHead(nn.Module):
    """A SegFormerHead for inference, whose batch norm is folded into its convolution.

    Without dropout, the linear layers and the fusing convolution are one linear map per level, and
    a pixel-wise linear map may come before the upsampling.
    """

    feature_align_corners = SegFormerHead.feature_align_corners
    logits_align_corners = SegFormerHead.logits_align_corners

    def __init__(self, head: SegFormerHead) -> None:
        super().__init__()
        fuse = head.fuse[0]
        parts = fuse.weight.flatten(1).chunk(len(head.linear), dim=1)[::-1]  # (f, f), by level
        self.levels = nn.ModuleList()
        bias = fuse.bias
        for linear, part in zip(head.linear, parts, strict=True):
            level = nn.Conv2d(linear.in_features, len(part), 1, bias=False)
            level.weight.data = (part @ linear.weight)[..., None, None]
            self.levels.append(level)
            bias = bias + part @ linear.bias
        self.levels[0].bias = nn.Parameter(bias)
        self.classifier = head.classifier

    def forward(self, levels: list[Tensor]) -> tuple[Tensor, Tensor]:
        """As SegFormerHead."""
        feature = self.levels[0](levels[0])
        for convolution, level in zip(self.levels[1:], levels[1:], strict=True):
            x = convolution(level)
            if x.shape[2:] != feature.shape[2:]:
                x = F.interpolate(x, feature.shape[2:], mode="bilinear", align_corners=False)
            feature += x
        feature = F.relu(feature, inplace=True)
        return feature, self.classifier(feature)
