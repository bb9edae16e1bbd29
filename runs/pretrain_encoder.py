"""Train a 2D encoder to segment NYUv2's images, before 2DNet keeps it frozen.

    bash runs/validation_split.sh data/NYU data/NYU_validation
    python runs/pretrain_encoder.py --labels data/label40 --out checkpoint/mobilenet_v2_nyu40.pth \\
        --validate model.pretrained=checkpoint/mobilenet_v2-b0353104.pth \\
        data.root=data/NYU_validation

These commands made the encoder that the networks of the repository start from. It started from the
ImageNet weights of torchvision, whose file
https://download.pytorch.org/models/mobilenet_v2-b0353104.pth is not part of the repository;
model.pretrained=imagenet lets segmentation-models-pytorch download its own copy.

--labels: a folder of 0003.png ... for the images of data.root's training split, 480x640, 8 bits:
the NYU-40 class (Gupta et al., CVPR 2013) minus 1, and 39 for "other" and unlabelled, which are
ignored; they are made of NYUv2's own labels, and are not part of the repository. The decoder (one
linear layer a level, as in 2DNet's head) is thrown away; with model.head=segmenter it is a UPerNet,
which sees context, and the file holds it too, for that head. With --validate, mean IoU on the test
split of data.root is printed after each epoch, whose labels must then be in the folder as well.

One-cycle AdamW; crops of half to all of the image, flips, colours; classes weighted by the inverse
square root of their frequency, because the rare ones are what the 2D side is for.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import load_config, parse_settings
from constants import IMAGE_MEAN, IMAGE_SIZE, IMAGE_STD
from datasets.files import open_image
from datasets.nyu import SceneFiles, find_scenes, read_image
from errors import InputError, exit_on_input_error
from models.encoder_weights import load_pretrained_encoder
from models.image_net import SEGMENTER_CLASSES, SEGMENTER_WIDTH
from utils.distributed import autocast
from utils.files import atomic_file, check_writable
from utils.metrics import class_ratios, confusion_matrix

NUM_CLASSES = SEGMENTER_CLASSES
IGNORE_INDEX = 39
STRIDE = 4  # of the decoder's map: every fourth label in each direction is used
BATCH_SIZE = 8
LR, ENCODER_LR, WEIGHT_DECAY = 1e-3, 3e-4, 0.05


class LabelledImages(Dataset):
    """Images (3, h, w) float and labels (h / 4, w / 4) int64 of scenes, after `transform`."""

    def __init__(self, scenes: list[SceneFiles], labels: Path, transform: v2.Compose) -> None:
        self.files = [(scene.image, labels / f"{scene.id}.png") for scene in scenes]
        self.transform = transform
        if missing := [path for _, path in self.files if not path.is_file()]:
            raise InputError(f"{missing[0]} and {len(missing) - 1} more label images are missing")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image_path, label_path = self.files[index]
        image = torch.from_numpy(read_image(image_path)).permute(2, 0, 1)
        label = np.array(open_image(label_path, IMAGE_SIZE))
        if label.max() > IGNORE_INDEX:
            raise InputError(f"{label_path}: class {label.max()} is above {IGNORE_INDEX}")
        mask = tv_tensors.Mask(torch.from_numpy(label))
        image, mask = self.transform(tv_tensors.Image(image), mask)
        mask = mask.as_subclass(torch.Tensor)[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
        return image.as_subclass(torch.Tensor), mask.long()


def transforms(size: tuple[int, int], augment: bool) -> v2.Compose:
    """uint8 image and mask -> normalised image of `size` and mask."""
    steps = [v2.Resize(size)]
    if augment:
        crop = v2.RandomResizedCrop(size, scale=(0.5, 1), ratio=(1.2, 1.5))
        steps = [crop, v2.RandomHorizontalFlip(), v2.ColorJitter(0.3, 0.3, 0.3, 0.05)]
    return v2.Compose([*steps, v2.ToDtype(torch.float32), v2.Normalize(IMAGE_MEAN, IMAGE_STD)])


def class_weights(dataset: LabelledImages) -> torch.Tensor:
    """(39,) float: inverse square roots of the frequencies, their mean over pixels 1."""
    counts = torch.zeros(IGNORE_INDEX + 1)
    for _, path in dataset.files:
        label = np.array(open_image(path, IMAGE_SIZE))
        counts += torch.from_numpy(label).flatten().bincount(minlength=IGNORE_INDEX + 1)
    counts = counts[:NUM_CLASSES].clamp(min=1)
    weights = counts.rsqrt()
    return weights * counts.sum() / (weights * counts).sum()


@torch.inference_mode()
def mean_iou(model: nn.Module, loader: DataLoader, device: torch.device, precision: str) -> float:
    """In percent, over the classes that occur."""
    model.eval()
    confusion = torch.zeros(NUM_CLASSES, NUM_CLASSES, dtype=torch.int64, device=device)
    for image, label in loader:
        with autocast(device, precision):
            predicted = model(image.to(device)).argmax(dim=1)
        label, predicted = label.to(device).flatten(), predicted.flatten()
        confusion += confusion_matrix(label, predicted, label != IGNORE_INDEX, NUM_CLASSES)
    return class_ratios(confusion)["iou"][confusion.sum(dim=1) > 0].mean().item()


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(description="Train a 2D encoder on labelled images.")
    parser.add_argument("--labels", type=Path, required=True, help="folder of NYU-40 label images")
    parser.add_argument("--out", type=Path, required=True, help="the encoder's weights")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--validate", action="store_true", help="mean IoU on the test split")
    parser.add_argument("--config", default="configs/nyu_small.yaml", help="preset")
    args = parse_settings(parser)
    cfg = load_config(args.config, args.overrides)
    check_writable(args.out)
    torch.manual_seed(cfg.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = cfg.train.precision

    size = tuple(round(side * cfg.model.image_scale) for side in IMAGE_SIZE)
    train = LabelledImages(find_scenes(cfg.data.root, "train"), args.labels, transforms(size, True))
    if len(train) < BATCH_SIZE:
        raise InputError(f"{cfg.data.root}: {len(train)} training images are too few: use all 795")
    loader = DataLoader(
        train, BATCH_SIZE, shuffle=True, drop_last=True, num_workers=cfg.data.workers,
        persistent_workers=cfg.data.workers > 0,
    )  # fmt: skip
    if args.validate:
        scenes = find_scenes(cfg.data.root, "test")
        validation = DataLoader(LabelledImages(scenes, args.labels, transforms(size, False)))

    keeps_decoder = cfg.model.head == "segmenter"
    common = {"encoder_weights": None, "classes": NUM_CLASSES, "upsampling": 1}
    if keeps_decoder:
        model = smp.UPerNet(cfg.model.encoder, decoder_channels=SEGMENTER_WIDTH, **common)
    else:
        model = smp.Segformer(cfg.model.encoder, decoder_segmentation_channels=128, **common)
    model.requires_divisible_input_shape = False  # this decoder takes 240x320 as it is
    load_pretrained_encoder(model, cfg.model.encoder, cfg.model.pretrained)
    model.to(device, memory_format=torch.channels_last)
    criterion = nn.CrossEntropyLoss(class_weights(train).to(device), ignore_index=IGNORE_INDEX)
    own = [*model.decoder.parameters(), *model.segmentation_head.parameters()]
    optimizer = torch.optim.AdamW(
        [{"params": model.encoder.parameters()}, {"params": own}], weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [ENCODER_LR, LR], total_steps=args.epochs * len(loader), pct_start=0.1
    )

    for epoch in range(args.epochs):
        model.train()
        total = 0.0
        for image, label in tqdm(loader, leave=False):
            with autocast(device, precision):
                logits = model(image.to(device, non_blocking=True))
            loss = criterion(logits.float(), label.to(device))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            total += loss.detach()
        line = f"epoch {epoch + 1}: loss {total / len(loader):.3f}"
        if args.validate:
            line += f", mean IoU {mean_iou(model, validation, device, precision):.1f}"
        print(line, flush=True)
        state = (model if keeps_decoder else model.encoder).state_dict()
        with atomic_file(args.out) as file:  # kernels in fp16: small enough to be given away
            torch.save({k: v.half() if v.ndim > 1 else v for k, v in state.items()}, file)


if __name__ == "__main__":
    main()
