"""Public training codes as their authors run them: is their batch measured, and what is advised?

Run: python benchmarks/public_codes.py FOLDER [NAME ...]. FOLDER has the sources, each repository at
the commit of `CODES` in a folder of its own name; timm and torchvision are installed. Each model
file is the shortest that gives the author's model, optimizer, batch and rate, with data made up of
the right shape, and each command starts anew with `--budget 60s`, or another where the machine is
slow.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from results import HERE, write_results

BUDGET_S = 60.0
#: Of real trainings, none the tool's; and the shares of their time at which losses are looked at.
SEEDS = (101, 102, 103)
MOMENTS = np.arange(0.1, 1.005, 0.01)
#: Share of the budget by which a command may end late.
LATE_FRACTION = 0.1


class Code(NamedTuple):
    """A public training code.

    Attributes:
        repository: On GitHub; the last part names its folder.
        commit: None where the installed package is used.
        base: Batch and rate of the author's.
        model_file: What a user would write.
    """

    repository: str
    commit: str | None
    base: tuple[int, float]
    model_file: str


CODES = {
    "nanogpt": Code(
        "karpathy/nanoGPT",
        "3adf61e154c3fe3fca428ad6bc3818b27a3b8291",
        (12, 1e-3),
        """
import torch
from pathlib import Path
from model import GPT, GPTConfig

text = "".join(path.read_text() for path in sorted(Path().glob("*.py")))
letters = {letter: number for number, letter in enumerate(sorted(set(text)))}
tokens = torch.tensor([letters[letter] for letter in text])
BASE_BATCH_SIZE, CLIP_GRAD_NORM = 12, 1.0  # the README's command for a CPU


def make_model():
    return GPT(GPTConfig(block_size=64, vocab_size=len(letters), n_layer=4, n_head=4, n_embd=128))


def make_dataset():
    return [(tokens[at : at + 64], tokens[at + 1 : at + 65]) for at in range(len(tokens) - 65)]


def loss_fn(model, batch):
    return model(*batch)[1]


def make_optimizer(model):
    return model.configure_optimizers(0.1, 1e-3, (0.9, 0.99), "cpu")
""",
    ),
    "mingpt": Code(
        "karpathy/minGPT",
        "37baab71b9abea1b76ab957409a1cc2fbfba8a26",
        (64, 5e-4),
        """
from mingpt.trainer import Trainer
from projects.adder.adder import AdditionDataset, get_config
from mingpt.model import GPT

config = get_config()
dataset = AdditionDataset(config.data, split="train")
config.model.vocab_size, config.model.block_size = 10, dataset.get_block_size()
BASE_BATCH_SIZE, CLIP_GRAD_NORM = config.trainer.batch_size, config.trainer.grad_norm_clip


def make_model():
    return GPT(config.model)


def make_dataset():
    return dataset


def loss_fn(model, batch):
    return model(*batch)[1]


def make_optimizer(model):
    return model.configure_optimizers(config.trainer)
""",
    ),
    "cifar": Code(
        "kuangliu/pytorch-cifar",
        "49b7aa97b0c12fe0d4054e670403a16b6b834ddd",
        (128, 0.1),
        """
import torch
from models import ResNet18

generator = torch.Generator().manual_seed(0)
labels = torch.randint(10, (4096,), generator=generator)
kinds = torch.randn(10, 3, 32, 32, generator=generator)
images = kinds[labels] + torch.randn(4096, 3, 32, 32, generator=generator)
BASE_BATCH_SIZE = 128


def make_model():
    return ResNet18()


def make_dataset():
    return torch.utils.data.TensorDataset(images, labels)


def make_optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)


def make_scheduler(optimizer, total_steps):
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total_steps)
""",
    ),
    "timm": Code(
        "huggingface/pytorch-image-models",
        None,
        (128, 0.05),
        """
import timm
import torch
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2

generator = torch.Generator().manual_seed(0)
labels = torch.randint(10, (2048,), generator=generator)
kinds = torch.randn(10, 3, 64, 64, generator=generator)
criterion = LabelSmoothingCrossEntropy(0.1)


def make_model():
    return timm.create_model("mobilenetv3_small_050", num_classes=10)


def make_dataset():
    images = kinds[labels] + torch.randn(2048, 3, 64, 64, generator=generator)
    dataset = torch.utils.data.TensorDataset(images, labels)
    return torch.utils.data.DataLoader(dataset, 128, shuffle=True, drop_last=True)


def loss_fn(model, batch):
    images, labels = batch
    return criterion(model(images), labels)


def make_optimizer(model):
    return create_optimizer_v2(model, opt="sgd", lr=0.05, momentum=0.9, weight_decay=2e-5)
""",
    ),
    "factorization": Code(
        "rixwew/pytorch-fm",
        "f74ad19771eda104e99874d19dc892e988ec53fa",
        (2048, 1e-3),
        """
import numpy as np
import torch
from torchfm.model.dfm import DeepFactorizationMachineModel

field_dims = np.array([6040, 3952])  # of MovieLens 1M
rng = np.random.default_rng(0)
fields = rng.integers(0, field_dims, (100_000, 2))
tastes = [rng.normal(size=(size, 4)) for size in field_dims]
liked = (tastes[0][fields[:, 0]] * tastes[1][fields[:, 1]]).sum(1) > 0
BASE_BATCH_SIZE = 2048
criterion = torch.nn.BCELoss()


class Ratings(torch.utils.data.Dataset):
    def __len__(self):
        return len(fields)

    def __getitem__(self, index):
        return fields[index], np.float32(liked[index])


def make_model():
    return DeepFactorizationMachineModel(field_dims, 16, (16, 16), 0.2)


def make_dataset():
    return Ratings()


def loss_fn(model, batch):
    fields, target = batch
    return criterion(model(fields), target.float())


def make_optimizer(model):
    return torch.optim.Adam(params=model.parameters(), lr=0.001, weight_decay=1e-6)
""",
    ),
    "diffusion": Code(
        "lucidrains/denoising-diffusion-pytorch",
        "faed4db28e724735323fa91c70aa9b28a6e1cbac",
        (32, 8e-5),
        """
import torch
from denoising_diffusion_pytorch import Dataset1D, GaussianDiffusion1D, Unet1D

BASE_BATCH_SIZE, CLIP_GRAD_NORM = 32, 1.0


def make_model():
    model = Unet1D(dim=64, dim_mults=(1, 2, 4, 8), channels=32)
    return GaussianDiffusion1D(model, seq_length=128, timesteps=1000, objective="pred_v")


def make_dataset():
    phases = torch.rand(2048, 32, 1, generator=torch.Generator().manual_seed(0))
    return Dataset1D(0.5 + 0.5 * torch.sin(6.28 * (phases + torch.linspace(0, 1, 128))))


def make_optimizer(model):
    return torch.optim.Adam(model.parameters(), lr=8e-5, betas=(0.9, 0.99))
""",
    ),
    "unet": Code(
        "milesial/Pytorch-UNet",
        "21d7850f2af30a9695bbeea75f3136aa538cfc4a",
        (1, 1e-5),
        """
import torch
from torch import nn
from torch.nn import functional as F
from unet import UNet
from utils.dice_score import dice_loss

BASE_BATCH_SIZE, CLIP_GRAD_NORM = 1, 1.0
criterion = nn.BCEWithLogitsLoss()


class Blobs(torch.utils.data.Dataset):
    def __len__(self):
        return 512

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        x, y, radius = 16 + 64 * torch.rand(3, generator=generator)
        grid = torch.arange(96.0)
        mask = (grid[:, None] - x) ** 2 + (grid - y) ** 2 < (radius / 2) ** 2
        image = mask + 0.3 * torch.randn(3, 96, 96, generator=generator)
        return {"image": image, "mask": mask.long()}


def make_model():
    return UNet(n_channels=3, n_classes=1).to(memory_format=torch.channels_last)


def make_dataset():
    return Blobs()


def loss_fn(model, batch):
    masks_pred = model(batch["image"].to(memory_format=torch.channels_last))
    loss = criterion(masks_pred.squeeze(1), batch["mask"].float())
    return loss + dice_loss(
        F.sigmoid(masks_pred.squeeze(1)), batch["mask"].float(), multiclass=False
    )


def make_optimizer(model):
    return torch.optim.RMSprop(
        model.parameters(), lr=1e-5, weight_decay=1e-8, momentum=0.999, foreach=True
    )
""",
    ),
    "detection": Code(
        "pytorch/vision",
        None,
        (24, 0.15),
        """
import torch
from torchvision.models.detection import ssdlite320_mobilenet_v3_large


class Squares(torch.utils.data.Dataset):
    def __len__(self):
        return 1000

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        image, count = torch.rand(3, 160, 160, generator=generator), 1 + index % 3
        corners = torch.randint(0, 120, (count, 2), generator=generator).float()
        for x, y in corners.int().tolist():
            image[:, y : y + 40, x : x + 40] += 1.0
        boxes, labels = torch.cat([corners, corners + 40], 1), torch.ones(count, dtype=torch.int64)
        return image, {"boxes": boxes, "labels": labels, "image_id": index}


def make_model():
    return ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=2)


def make_dataset():
    return torch.utils.data.DataLoader(Squares(), 24, shuffle=True, collate_fn=collate_fn)


def collate_fn(batch):
    return tuple(zip(*batch))


def loss_fn(model, batch):
    images, targets = batch
    return sum(model(images, targets).values())


def make_optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.15, momentum=0.9, weight_decay=4e-5)
""",
    ),
    "word_language_model": Code(
        "pytorch/examples",
        "77f55b912142e11fcfdf5b530231fb9c52f181e8",
        (20, 20.0),
        """
import torch
from pathlib import Path
from torch.nn import functional as F
from word_language_model.model import RNNModel

words = " ".join(path.read_text() for path in sorted(Path().rglob("*.py"))).split()
numbers = {word: number for number, word in enumerate(sorted(set(words)))}
tokens = torch.tensor([numbers[word] for word in words])
BASE_BATCH_SIZE, CLIP_GRAD_NORM = 20, 0.25


def make_model():
    return RNNModel("LSTM", len(numbers), 200, 200, 2, dropout=0.2)


def make_dataset():
    return [(tokens[at : at + 35], tokens[at + 1 : at + 36]) for at in range(len(tokens) - 36)]


def collate_fn(samples):
    data, targets = zip(*samples)
    return torch.stack(data, 1), torch.stack(targets, 1)  # the batch is the second dimension


def loss_fn(model, batch):
    data, targets = batch
    output, _ = model(data, model.init_hidden(data.size(1)))
    return F.nll_loss(output, targets.reshape(-1))


def make_optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=20.0)
""",
    ),
}


def probe(name: str, folder: Path, budget_s: float) -> dict[str, Any]:
    """Return what the tool told of a code, and how long it took."""
    code = CODES[name]
    source = folder / code.repository.rpartition("/")[2] if code.commit else folder
    with tempfile.TemporaryDirectory() as made:
        model, answer = Path(made, "advised.py"), Path(made, "run.json")
        model.write_text(code.model_file.lstrip())
        command = [sys.executable, "-m", "advisor.cli", "probe", str(model), "--json", str(answer)]
        started_s = time.perf_counter()
        done = subprocess.run(
            [*command, "--budget", f"{budget_s:g}s"],
            cwd=source, env={**os.environ, "PYTHONPATH": str(HERE.parent)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        wall_s = time.perf_counter() - started_s
        record = json.loads(answer.read_text()) if answer.exists() else {}
    print(done.stdout, done.stderr, sep="\n")
    told = {"exit_code": done.returncode, "wall_s": wall_s, "report": done.stdout}
    return {**told, **judge(record, code.base)}


def follow(name: str, folder: Path, advised: tuple[int, float], seconds: float) -> dict[str, Any]:
    """Return how long the advised pair takes in a plain loop to where the base pair's ends.

    Both are trained for as long, in turns, from the same seeds; losses are averaged over the last
    tenth of the time before each moment, and over the seeds.
    """
    code = CODES[name]
    source = folder / code.repository.rpartition("/")[2] if code.commit else folder
    curves: dict[tuple[int, float], list[Any]] = {code.base: [], advised: []}
    with tempfile.TemporaryDirectory() as made:
        model, out = Path(made, "advised.py"), Path(made, "steps.json")
        model.write_text(code.model_file.lstrip())
        for seed in SEEDS:
            for pair, seen in curves.items():
                asked = [out, seconds, seed, model, *pair]
                command = [
                    sys.executable,
                    str(HERE / "scripts" / "follow_model.py"),
                    *map(str, asked),
                ]
                subprocess.run(command, cwd=source, check=True, capture_output=True)
                seen.append(np.array(json.loads(out.read_text())))
    smooth = {pair: _smooth(seen, seconds) for pair, seen in curves.items()}
    level = smooth[code.base][-1]
    below = np.flatnonzero(smooth[advised] <= level)
    return {
        "seconds": seconds,
        "seeds": SEEDS,
        "loss_of_base": float(level),
        "loss_of_advised": float(smooth[advised][-1]),
        "real_ratio": float(MOMENTS[below[0]]) if len(below) else None,
    }


def _smooth(curves: list[Any], seconds: float) -> Any:
    means = []
    for moment in MOMENTS * seconds:
        from_s = moment - 0.1 * seconds
        recent = [c[(c[:, 0] > from_s) & (c[:, 0] <= moment), 1].mean() for c in curves]
        means.append(np.mean(recent))
    return np.array(means)


def judge(record: dict[str, Any], base: tuple[int, float]) -> dict[str, Any]:
    """Return whether the base batch was timed, and the advised pair with its promise."""
    derived = record.get("derived") or {}
    points = (derived.get("throughput") or {}).get("points") or []
    advice = derived.get("recommendation")
    told = {
        "base": base,
        "is_base_timed": base[0] in {point["micro_batch_size"] for point in points},
        "advised": None,
    }
    if advice is not None:
        told["advised"] = (advice["global_batch_size"], advice["learning_rate"]["value"])
        told["expected"] = advice["expected"]
    return told


def main() -> None:
    """Probe each code, print its report and save what was told."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", choices=[[], *CODES], default=[])
    parser.add_argument("--budget-s", type=float, default=BUDGET_S)
    parser.add_argument("--follow-s", type=float, default=30.0, help="of each real training")
    asked = parser.parse_args()
    told = {}
    for name in asked.names or CODES:
        print(f"== {name}")
        told[name] = probe(name, asked.folder.resolve(), asked.budget_s)
    for name, each in told.items():
        if each["advised"] not in {None, each["base"]}:
            folder = asked.folder.resolve()
            each["followed"] = follow(name, folder, each["advised"], asked.follow_s)
    for name, each in told.items():
        late = "" if each["wall_s"] <= (1 + LATE_FRACTION) * asked.budget_s else ", late"
        timed = "timed" if each["is_base_timed"] else "not timed"
        print(
            f"{name:20} exit {each['exit_code']} in {each['wall_s']:.0f} s{late}: "
            f"base {each['base']} {timed}, advised {each['advised']} {each.get('followed', '')}"
        )
    if not asked.names:
        codes = {name: (code.repository, code.commit) for name, code in CODES.items()}
        print(
            write_results(
                "public_codes", {"codes": codes, "budget_s": asked.budget_s, "told": told}
            )
        )


if __name__ == "__main__":
    main()
