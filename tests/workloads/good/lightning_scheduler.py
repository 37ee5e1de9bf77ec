"""A LightningModule with a scheduler, a LightningDataModule and a loss in a dict."""

import torch
from lightning import LightningDataModule, LightningModule
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset


class Classifier(LightningModule):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 3)

    def forward(self, inputs):
        return self.head(inputs)

    def training_step(self, batch, batch_idx):
        inputs, targets = batch
        loss = functional.cross_entropy(self(inputs), targets)
        self.log("loss", loss)
        return {"loss": loss, "seen": len(inputs)}

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=3e-3)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=100)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


class Data(LightningDataModule):
    def setup(self, stage):
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(192, 6, generator=generator)
        self.samples = TensorDataset(inputs, inputs[:, :3].argmax(1))

    def train_dataloader(self):
        return DataLoader(self.samples, batch_size=24, shuffle=True)
