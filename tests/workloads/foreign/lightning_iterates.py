"""The step takes its batches from the loader itself."""

import lightning
import torch
from rows import Network, make_rows
from torch.nn import functional
from torch.utils.data import DataLoader


class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = Network()

    def training_step(self, dataloader_iter):
        batch, _, _ = next(dataloader_iter)
        return functional.cross_entropy(self.network(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self):
        return DataLoader(make_rows(), batch_size=20)
