"""What the step needs is made by the hooks that run before it."""

import lightning
import torch
from rows import Network, make_rows
from torch.nn import functional
from torch.utils.data import DataLoader


class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = Network()

    def on_fit_start(self):
        self.weight = torch.ones(3, device=self.device)

    def on_train_start(self):
        self.logger.log_hyperparams({"rate": 0.1})
        self.scale = 2.0

    def on_train_batch_start(self, batch, batch_idx):
        self.names = sorted(batch)

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        return {"inputs": batch[0].to(device), "labels": batch[1].to(device)}

    def training_step(self, batch, batch_idx):
        assert self.names == ["inputs", "labels"]
        output = self.network(batch["inputs"])
        return self.scale * functional.cross_entropy(output, batch["labels"], self.weight)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self):
        return DataLoader(make_rows(), batch_size=20)
