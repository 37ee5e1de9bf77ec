"""Every example of the page on objects in one's own loop runs as it stands, one after the other."""

import re

import pytest
import torch
from torch import distributed, nn
from torch.utils.data import DataLoader, TensorDataset

from tests.integration.probe_command import ROOT

BLOCKS = re.findall(
    r"^```python\n(.*?)^```$", (ROOT / "docs" / "in_loop.md").read_text(), re.MULTILINE | re.DOTALL
)


@pytest.fixture
def one_rank(tmp_path):
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    yield
    distributed.destroy_process_group()


def make_lightning_module():
    import lightning.pytorch as pl

    class Module(pl.LightningModule):
        """What the page calls `lightning_module`."""

        def __init__(self):
            super().__init__()
            self.net = nn.Linear(8, 1)

        def training_step(self, batch, _index):
            return nn.functional.mse_loss(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.01)

    return Module()


class HuggingFace(nn.Module):
    """What the page calls `hugging_face_model`."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(8, 1)

    def forward(self, inputs, labels):
        return {"loss": nn.functional.mse_loss(self.net(inputs), labels)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the Trainers' own
def test_every_example_runs(one_rank, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    inputs = torch.randn(3200, 8)
    dataset = TensorDataset(inputs, inputs.sum(1, keepdim=True) + torch.randn(3200, 1))
    model = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    names = {
        "model": model,
        "optimizer": optimizer,
        "scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 2000),
        "lightning_module": make_lightning_module(),
        "hugging_face_model": HuggingFace(),
        "rows": [{"inputs": x, "labels": y} for x, y in dataset][:96],
        "loader": DataLoader(dataset, 4, shuffle=True),
        "loss_of": lambda model, batch: nn.functional.mse_loss(model(batch[0]), batch[1]),
    }
    for block in BLOCKS:
        exec(compile(block, "in_loop.md", "exec"), names)
    assert names["schedule"].batch_size == 16
    assert names["trainer"].state.global_step == 3 * 12
    assert names["growing"].schedule.samples_seen == 3200
    assert "every" in capsys.readouterr().out
    assert (tmp_path / "noise.jsonl").read_text()
