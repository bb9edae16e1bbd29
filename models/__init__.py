"""The network of CleanerS, its losses and its checkpoints."""

from models.image_net import Net2D
from models.network import CleanerS
from models.ssc_net import SSCNet
from models.tsdf_net import TSDFNet


def build_model(cfg) -> CleanerS:
    """The network of the `model` settings, randomly initialised; nothing is downloaded."""
    return CleanerS(
        Net2D(cfg.encoder, cfg.head, cfg.width, cfg.freeze_encoder, cfg.image_scale),
        TSDFNet(cfg.width, cfg.stem),
        SSCNet(cfg.width),
    )
