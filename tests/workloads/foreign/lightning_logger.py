"""The step logs to the experiment and asks for optimizers and other processes."""

import lightning
import torch
from rows import Network, make_rows
from torch.nn import functional
from torch.utils.data import DataLoader


class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.network, self.first = Network(), None

    def training_step(self, batch, batch_idx):
        if batch_idx == 0:
            self.first = batch[0].mean()
        loss = functional.cross_entropy(self.network(batch[0]), batch[1]) + 0.0 * self.first
        self.logger.experiment.add_scalar("loss", loss, self.global_step)
        self.log("rate", self.optimizers().param_groups[0]["lr"])
        self.print(f"{self.lr_schedulers()}")
        return self.all_gather(loss).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self):
        return DataLoader(make_rows(), batch_size=20)
