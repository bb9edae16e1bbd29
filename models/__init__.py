"""The network of CleanerS, its losses and its checkpoints."""

import torch
from easydict import EasyDict

from models.image_net import Net2D
from models.inference import prepare_for_inference
from models.network import CleanerS
from models.ssc_net import SSCNet
from models.tsdf_net import TSDFNet

__all__ = ["build_model", "prepare_for_inference"]


def build_model(cfg: EasyDict) -> CleanerS:
    """The network of the `model` settings, randomly initialised; nothing is downloaded."""
    net_2d = Net2D(cfg.encoder, cfg.head, cfg.width, cfg.freeze_encoder, cfg.image_scale)
    tsdf_net, ssc_net = TSDFNet(cfg.width, cfg.stem), SSCNet(cfg.width)
    # The layout of the weights decides that of the volumes.
    for net in (tsdf_net, ssc_net):
        net.to(memory_format=torch.channels_last_3d)
    return CleanerS(net_2d, tsdf_net, ssc_net)
