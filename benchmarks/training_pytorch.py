"""The rival in PyTorch of training_race.py, which calls it; needs requirements-pytorch.txt, nothing of this project.

    python training_pytorch.py FOLDER

FOLDER holds rows.npz (labels, train, validation) and params.json. Prints a list of [seconds, [truth, called], images]
for each epoch.
"""

import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import timm
import torch
from torch import nn
from torchvision.transforms import v2


class Images(torch.utils.data.Dataset):
    """Grey images and classes, augmented or not."""

    def __init__(self, images, labels, rows, change=None) -> None:
        self._images, self._labels, self._rows, self._change = images, labels, rows, change

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int):
        image = torch.from_numpy(self._images[self._rows[i]][None].copy())
        image = image.to(torch.float32) / 255
        return (self._change(image) if self._change else image), self._labels[self._rows[i]]


class Network(nn.Module):
    """timm's network over grey images of 0 to 1, scaled as its weights expect."""

    def __init__(self, weights: str, classes: int, dropout: float) -> None:
        super().__init__()
        self.body = timm.create_model("efficientnet_lite0", num_classes=classes, drop_rate=dropout)
        own = self.body.state_dict()
        names = [name for name in own if not name.startswith("classifier")]
        state = torch.load(weights, map_location="cpu", weights_only=True)
        given = [array for name, array in state.items() if not name.startswith("_fc")]
        # Both list the layers of the same network from its input on.
        for name, array in zip(names, given, strict=True):
            assert own[name].shape == array.shape, name
            own[name].copy_(array)

    def forward(self, x):
        return self.body(((x * 255 - 127) / 128).expand(-1, 3, -1, -1))


def freeze(body: nn.Module, share: float) -> list[nn.Module]:
    """Freeze a share of the layers, and all batch normalisation, whose layers are returned."""
    layers = [module for module in body.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
    norms = [module for module in layers if isinstance(module, nn.BatchNorm2d)]
    for module in [*layers[: round(share * len(layers))], *norms]:
        for weight in module.parameters():
            weight.requires_grad = False
    return norms


def main() -> None:
    folder = Path(sys.argv[1])
    params = json.loads((folder / "params.json").read_text(encoding="utf-8"))
    arrays = np.load(folder / "rows.npz")
    images, labels = np.load(params["images"], mmap_mode="r"), arrays["labels"]
    train, augment, model = params["train"], params["train"]["augment"], params["model"]
    torch.manual_seed(params["run"]["seed"])
    torch.set_num_threads(params["run"]["threads"])
    change = v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(
                augment["rotate"],
                translate=(augment["shift"],) * 2,
                scale=(1 - augment["zoom"], 1 + augment["zoom"]),
                interpolation=v2.InterpolationMode.BILINEAR,
            ),
            v2.ColorJitter(brightness=augment["brightness"], contrast=augment["contrast"]),
            v2.GaussianNoise(sigma=augment["noise"] / 2),
            v2.RandomErasing(p=0.5, scale=(0.002, augment["erase"] ** 2)),
        ]
    )
    start = time.monotonic()
    learned = torch.utils.data.DataLoader(
        Images(images, labels, arrays["train"], change),
        batch_size=train["batch_size"],
        shuffle=True,
        num_workers=1,
        persistent_workers=True,
    )
    judged = torch.utils.data.DataLoader(Images(images, labels, arrays["validation"]), batch_size=64)
    network = Network(params["weights"], params["classes"], model["dropout"]).to(memory_format=torch.channels_last)
    norms = freeze(network.body, model["frozen"])
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=train["learning_rate"], weight_decay=train["weight_decay"])
    warm, every = train["warmup_epochs"] * len(learned), train["epochs"] * len(learned)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda i: (i + 1) / warm if i < warm else 0.5 * (1 + math.cos(math.pi * (i - warm) / (every - warm))),
    )
    loss = nn.CrossEntropyLoss(label_smoothing=train["label_smoothing"])
    rows = []
    for _ in range(train["epochs"]):
        network.train()
        for norm in norms:
            norm.eval()
        for x, y in learned:
            optimizer.zero_grad()
            loss(network(x.contiguous(memory_format=torch.channels_last)), y).backward()
            optimizer.step()
            schedule.step()
        network.eval()
        with torch.inference_mode():
            called = torch.cat([network(x).argmax(1) for x, _ in judged]).tolist()
        truth = labels[arrays["validation"]].tolist()
        rows.append((time.monotonic() - start, (truth, called), len(arrays["train"])))
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
