"""A network prepared for inference predicts what it did before."""

import copy

import pytest
import torch
from timm.layers import convert_sync_batchnorm
from torch import nn

from config import load_config
from models import build_model, prepare_for_inference
from models.inference import FlipMean
from models.ssc_net import SSCNet
from utils.distributed import autocast

HEADS = {"tu-resnet50s": "sketch", "tu-tf_efficientnet_lite0": "segmenter"}


def randomise_norms(model):
    """Batch norms as after a training: none is the identity."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return model.eval()


@pytest.mark.parametrize(
    "encoder, synchronised",
    [
        ("mit_b0", False),
        ("mit_b0", True),
        ("mobilenet_v2", False),
        ("resnet18", False),
        ("tu-resnet50s", True),
        ("tu-convnext_atto", False),
        ("tu-tf_efficientnet_lite0", False),  # the strided convolutions and the norms are timm's
        ("tu-tf_efficientnet_lite0", True),
    ],
)
def test_the_same_outputs(encoder, synchronised, golden_batch):
    torch.manual_seed(0)
    settings = [f"model.encoder={encoder}", "model.width=8", "model.stem=4"]
    settings += [f"model.head={HEADS[encoder]}"] if encoder in HEADS else []
    model = randomise_norms(build_model(load_config(overrides=settings).model))
    batch = golden_batch([0])
    inputs = batch["image"], batch["mapping2d"], batch["tsdf"]
    # With several processes on GPUs, batch norms are synchronised in training.
    trained = convert_sync_batchnorm(copy.deepcopy(model)) if synchronised else model
    prepared = prepare_for_inference(copy.deepcopy(trained))
    with torch.no_grad():
        expected, outputs = model(*inputs), prepared(*inputs)
    for name, value, other in zip(expected._fields, expected, outputs, strict=True):
        assert (value - other).abs().max() <= 1e-5 * value.abs().max(), name
    norms = [m for m in prepared.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert not norms and not prepared.training

    state = copy.deepcopy(prepared.state_dict())
    again = prepare_for_inference(prepared).state_dict()
    assert state.keys() == again.keys()
    assert all(torch.equal(state[key], again[key]) for key in state)


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, torch.bfloat16),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, torch.float32),
        ({"sve_bf16": True}, torch.bfloat16),
        ({"avx512_f": True}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_automatic_precision_is_bf16_where_the_cpu_gains_by_it(capabilities, dtype, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, **capabilities})
    with autocast(torch.device("cpu"), "auto"):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == dtype


def test_mean_over_flips():
    """Against the mean of four outputs whose inputs and outputs were flipped by hand."""
    torch.manual_seed(0)
    net = randomise_norms(SSCNet(8))
    volume = torch.randn(2, 8, 60, 36, 60)
    with torch.no_grad():
        expected = net(volume)
        for axes in ((2,), (4,), (2, 4)):
            expected = expected + net(volume.flip(axes)).flip(axes)
        outputs = FlipMean(net)(volume)
    assert (outputs - expected / 4).abs().max() < 1e-5
    assert (outputs - net(volume)).abs().max() > 1e-2
