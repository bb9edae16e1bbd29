"""2DNet: encoders by name, the ResNet50 of 3D-Sketch, freezing, pretrained weights."""

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from torch import nn

from config import load_config
from errors import InputError
from models import build_model
from models.encoder_weights import load_pretrained_encoder, stem_of_weights
from models.image_net import Net2D


def net(encoder, head="segformer", **changes):
    torch.manual_seed(0)
    options = {"width": 8, "freeze": True, "image_scale": 1.0} | changes
    return Net2D(encoder, head, **options)


@pytest.mark.parametrize("name", ["mit_b1", "resnet18", "mobilenet_v2", "tu-convnext_atto"])
def test_any_encoder_with_four_levels(name):
    feature, logits = net(name).eval()(torch.rand(1, 3, 64, 96))
    assert feature.shape == (1, 8, 16, 24) and logits.shape == (1, 12, 16, 24)


def test_an_unknown_encoder_is_named():
    with pytest.raises(InputError, match="model.encoder=resnet51"):
        net("resnet51")
    with pytest.raises(InputError, match="tu-swin_tiny_patch4_window7_224"):  # 224 x 224 only
        net("tu-swin_tiny_patch4_window7_224")
    with pytest.raises(InputError, match="model.head=sketch needs model.encoder=tu-resnet50s"):
        net("resnet18", head="sketch")


def sketch_resnet50_weights():
    """A file of 3D-Sketch's ResNet50: timm's deep-stem network under the names it used."""
    torch.manual_seed(0)
    oracle = timm.create_model("resnet50s", output_stride=16, num_classes=0)
    for block, dilation in zip(oracle.layer4, (2, 4, 8), strict=True):
        block.conv2.dilation = block.conv2.padding = (dilation, dilation)
    names = {
        "conv1.0": "conv1", "conv1.1": "bn1", "conv1.3": "conv2", "conv1.4": "bn2",
        "conv1.6": "conv3", "bn1": "bn3",
    }  # fmt: skip
    state = {}
    for key, value in oracle.state_dict().items():
        module, entry = key.rsplit(".", 1)
        state[f"{names.get(module, module)}.{entry}"] = value
    return oracle, state


def test_3d_sketchs_resnet50_loads_and_is_that_network(tmp_path):
    oracle, state = sketch_resnet50_weights()
    state |= {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    path = tmp_path / "resnet50-imagenet.pth"
    torch.save(state, path)
    cfg = load_config("configs/nyu_resnet50.yaml", [f"model.pretrained={path}"]).model
    assert stem_of_weights(cfg) == "tu-resnet50s"
    ours = net("tu-resnet50s", head="sketch")
    load_pretrained_encoder(ours, "tu-resnet50s", str(path))
    image = torch.rand(1, 3, 96, 128)
    with torch.no_grad():
        theirs = oracle.eval().forward_features(image)
        levels = ours.eval().encoder(image)
        assert ours(image)[0].shape == (1, 8, 6, 8)
    assert theirs.shape == (1, 2048, 6, 8)
    assert torch.equal(levels[-1], theirs)


def test_torchvisions_resnet50_decides_for_the_plain_stem(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "resnet50.pth"
    oracle = torchvision.models.resnet50(replace_stride_with_dilation=[False, False, True])
    state = {f"module.{key}": value for key, value in oracle.state_dict().items()}
    torch.save({"state_dict": state}, path)
    cfg = load_config("configs/nyu_resnet50.yaml", [f"model.pretrained={path}"]).model
    assert stem_of_weights(cfg) == "resnet50"
    ours = net("resnet50", head="sketch")
    load_pretrained_encoder(ours, "resnet50", str(path))
    for block, dilation in zip(oracle.layer4, (2, 4, 8), strict=True):
        block.conv2.dilation = block.conv2.padding = (dilation, dilation)
    backbone = nn.Sequential(*list(oracle.children())[:-2]).eval()
    image = torch.rand(1, 3, 96, 128)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval().encoder(image)[-1], backbone(image))


def test_segformers_file_loads_apart_from_its_classifier(tmp_path):
    source = smp.encoders.get_encoder("mit_b0", weights=None)
    state = {f"module.{key}": value for key, value in source.state_dict().items()}
    state |= {"module.head.weight": torch.zeros(1000, 256), "module.head.bias": torch.zeros(1000)}
    path = tmp_path / "mit_b0.pth"
    torch.save({"state_dict": state}, path)
    ours = net("mit_b0")
    load_pretrained_encoder(ours, "mit_b0", str(path))
    for key, value in ours.encoder.state_dict().items():
        assert torch.equal(value, source.state_dict()[key])

    del state["module.norm4.weight"]
    state["module.norm5.weight"] = torch.zeros(3)
    torch.save(state, path)
    with pytest.raises(InputError) as caught:
        load_pretrained_encoder(ours, "mit_b0", str(path))
    for part in ("mit_b0.pth", "1 missing (norm4.weight)", "1 unknown (norm5.weight)"):
        assert part in str(caught.value)


def test_missing_and_undownloadable_weights_are_named():
    with pytest.raises(InputError, match="checkpoint/absent.pth does not exist"):
        load_pretrained_encoder(net("resnet18"), "resnet18", "checkpoint/absent.pth")
    with pytest.raises(InputError, match="model.pretrained=imagenot"):
        load_pretrained_encoder(net("resnet18"), "resnet18", "imagenot")


def test_a_frozen_encoder_keeps_its_weights_and_batch_statistics():
    ours = net("mobilenet_v2").train()
    before = {key: value.clone() for key, value in ours.encoder.state_dict().items()}
    feature, logits = ours(torch.rand(2, 3, 64, 96))
    (feature.sum() + logits.sum()).backward()
    for key, value in ours.encoder.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert all(p.grad is None for p in ours.encoder.parameters())
    assert all(p.grad is not None for p in ours.head.parameters())


def test_3d_sketchs_frozen_encoder_updates_its_batch_statistics():
    ours = net("tu-resnet50s", head="sketch").train()
    before = ours.encoder.model.bn1.running_mean.clone()
    ours(torch.rand(2, 3, 64, 96))
    assert not torch.equal(ours.encoder.model.bn1.running_mean, before)
    assert not any(p.requires_grad for p in ours.encoder.parameters())


def test_stochastic_depth_is_active_in_training_although_frozen():
    ours = net("mit_b0")
    image = torch.rand(1, 3, 64, 96)
    ours.train()
    ours.head.eval()
    assert not torch.equal(ours(image)[0], ours(image)[0])
    ours.eval()
    assert torch.equal(ours(image)[0], ours(image)[0])


def test_an_unfrozen_encoder_learns():
    ours = net("mobilenet_v2", freeze=False).train()
    ours(torch.rand(2, 3, 64, 96))[0].sum().backward()
    assert all(p.grad is not None for p in ours.encoder.parameters())


def test_presets_build():
    for preset in ("nyu_small", "debug", "nyu_resnet50"):
        build_model(load_config(f"configs/{preset}.yaml").model)


def test_a_segmenter_keeps_what_it_learnt(tmp_path):
    """Its class probabilities are those of the network that runs/pretrain_encoder.py trains."""
    torch.manual_seed(0)
    trained = smp.UPerNet(
        "mobilenet_v2", encoder_weights=None, decoder_channels=64, classes=39, upsampling=1
    )
    trained.requires_divisible_input_shape = False
    path = tmp_path / "trained.pth"
    torch.save(trained.state_dict(), path)
    ours = net("mobilenet_v2", head="segmenter")
    load_pretrained_encoder(ours, "mobilenet_v2", str(path))
    image, fused = torch.rand(2, 3, 64, 96), []
    ours.head.fuse.register_forward_pre_hook(lambda _, inputs: fused.append(inputs[0]))
    feature, logits = ours.train()(image)
    with torch.no_grad():
        expected = trained.eval()(image).softmax(dim=1)
    torch.testing.assert_close(fused[0][:, 64:], expected)
    assert feature.shape[2:] == logits.shape[2:] == (16, 24)
    logits.sum().backward()
    assert {n for n, p in ours.named_parameters() if p.grad is not None} == {
        "head.fuse.0.weight", "head.fuse.1.weight", "head.fuse.1.bias",
        "head.classifier.weight", "head.classifier.bias",
    }  # fmt: skip
    with pytest.raises(InputError, match="segmenter keeps a trained decoder"):
        load_pretrained_encoder(ours, "mobilenet_v2", "imagenet")
