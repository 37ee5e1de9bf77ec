"""Lightning's Trainer: accumulation, clipping and a scheduler; or manual; any precision."""

import argparse
import warnings

import lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings("ignore")
parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--lr", type=float, default=0.05)
parser.add_argument("--manual", action="store_true")
parser.add_argument("--precision", default="32-true")
arguments = parser.parse_args()


class Automatic(pl.LightningModule):
    """A classifier as Lightning has it."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))

    def training_step(self, batch, _index):
        inputs, targets = batch
        loss = nn.functional.cross_entropy(self.net(inputs), targets)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, _index):
        self.log("held out", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=arguments.lr, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


class Manual(Automatic):
    """Steps by itself."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, index):
        optimizer = self.optimizers()
        self.manual_backward(super().training_step(batch, index))
        self.clip_gradients(optimizer, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
        optimizer.step()
        optimizer.zero_grad()


def load(samples, **more):
    inputs = torch.randn(samples, 8)
    return DataLoader(TensorDataset(inputs, inputs[:, :3].argmax(1)), arguments.batch_size, **more)


if __name__ == "__main__":
    pl.seed_everything(7)
    more = {} if arguments.manual else {"accumulate_grad_batches": 2, "gradient_clip_val": 0.5}
    trainer = pl.Trainer(
        max_epochs=4,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        precision=arguments.precision,
        **more,
    )
    module = Manual() if arguments.manual else Automatic()
    trainer.fit(module, load(2048, shuffle=True, drop_last=True), load(96))
