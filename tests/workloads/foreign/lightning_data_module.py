"""The batch size is the data module's (Lightning-AI/pytorch-lightning#4226)."""

import lightning
import torch
from rows import Network, make_rows
from torch.nn import functional
from torch.utils.data import DataLoader


class Rows(lightning.LightningDataModule):
    def __init__(self, batch_size=40):
        super().__init__()
        self.batch_size, self.classes = batch_size, None

    def setup(self, stage):
        self.rows, self.classes = make_rows(), 3

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return {"inputs": batch[0], "labels": batch[1]}

    def train_dataloader(self):
        return DataLoader(self.rows, batch_size=self.batch_size)


class Module(lightning.LightningModule):
    def setup(self, stage):
        assert self.trainer.datamodule.classes == 3
        self.network = Network()

    def training_step(self, batch, batch_idx):
        return functional.cross_entropy(self.network(batch["inputs"]), batch["labels"])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
