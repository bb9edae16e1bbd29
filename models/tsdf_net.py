"""3D-TSDFNet: the TSDF to a feature volume, which KD-T compares."""

from torch import Tensor, nn

from models.batch_norm import BatchNorm3d
from models.blocks import UNet3D
from models.convolution import Conv3d


def _conv(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [
        Conv3d(channels_in, channels_out, 3, padding=1, bias=False),
        BatchNorm3d(channels_out),
        nn.ReLU(inplace=True),
    ]


class TSDFNet(nn.Module):
    """3D-TSDFNet (paper section 3.1).

    tsdf (B, 1, 60, 36, 60) in [-1, 1] -> (B, f, 60, 36, 60), >= 0, of width f. `stem` is the number
    of channels of the middle one of the three full-resolution convolutions.
    """

    def __init__(self, width: int, stem: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_conv(1, 3), *_conv(3, stem), *_conv(stem, width))
        self.unet = UNet3D(width, dropout=0.3)

    def forward(self, tsdf: Tensor) -> Tensor:
        return self.unet(self.stem(tsdf))
