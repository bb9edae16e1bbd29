"""The figures of docs/SCALE.md are those that its command prints."""

import sys
from pathlib import Path

import torch
from torch import nn

from benchmarks import flops
from models.image_net import Net2D

ROOT = Path(__file__).parents[1]


def test_operations_of_a_convolution_counted_by_hand():
    """Forward, gradient of the weight, and gradient of the input if it wants one."""
    conv = nn.Conv3d(3, 5, 3, padding=1, bias=False, device="meta")
    x = torch.empty(1, 3, 4, 6, 8, device="meta")
    once = 2 * (4 * 6 * 8) * 5 * (3 * 27)
    assert flops.operations(conv, x, backward=False) == once
    assert flops.operations(conv, x, backward=True) == 2 * once
    assert flops.operations(conv, x.requires_grad_(), backward=True) == 3 * once


def test_a_frozen_encoder_has_no_backward_pass():
    image = torch.empty(1, 3, 480, 640, device="meta")
    ratios = []
    for freeze in (True, False):
        net = Net2D("resnet18", "segformer", 8, freeze, 0.25).to("meta")
        forward, both = (flops.operations(net, image, backward=b) for b in (False, True))
        ratios.append(both / forward)
    assert 1 < ratios[0] < 2.5 < ratios[1] <= 3


def test_the_document_has_the_figures(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["flops.py"])
    flops.main()
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    document = (ROOT / "docs/SCALE.md").read_text()
    missing = [line for line in lines if line not in document]
    assert len(lines) > 10 and not missing
