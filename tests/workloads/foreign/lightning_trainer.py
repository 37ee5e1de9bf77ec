"""The optimizer asks the Trainer for its strategy."""

import lightning
import torch
from rows import Network, make_rows
from torch.nn import functional
from torch.utils.data import DataLoader


class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = Network()

    def training_step(self, batch, batch_idx):
        return functional.cross_entropy(self.network(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.trainer.strategy.model.parameters(), lr=0.1)

    def train_dataloader(self):
        return DataLoader(make_rows(), batch_size=8)
