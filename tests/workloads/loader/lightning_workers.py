"""A LightningModule whose own loader has workers, too few of them."""

import time

import torch
from lightning import LightningModule
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler


class Slow(Dataset):
    def __len__(self):
        return 256

    def __getitem__(self, index):
        time.sleep(0.03)
        inputs = torch.full((4,), index / 256)
        return inputs, inputs.sum().reshape(1)


class Regression(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def training_step(self, batch, batch_idx):
        time.sleep(0.06)
        inputs, targets = batch
        return functional.mse_loss(self.layer(inputs), targets)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)

    def train_dataloader(self):
        dataset = Slow()
        sampler = WeightedRandomSampler([1.0] * len(dataset), len(dataset))
        return DataLoader(dataset, batch_size=4, sampler=sampler, num_workers=1)
