"""A LightningModule as it is: its own step, logging, optimizer and loader."""

import torch
from lightning import LightningModule
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset


class Regression(LightningModule):
    def __init__(self, width=8):
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 1))

    def training_step(self, batch, batch_idx):
        inputs, targets = batch
        loss = functional.mse_loss(self.layers(inputs), targets)
        self.log("train_loss", loss, prog_bar=True)
        self.log_dict({"train_rmse": loss.sqrt()})
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)

    def train_dataloader(self):
        inputs = torch.randn(256, 4, generator=torch.Generator().manual_seed(0))
        targets = inputs.sum(1, keepdim=True).sin()
        return DataLoader(TensorDataset(inputs, targets), batch_size=16, shuffle=True)
