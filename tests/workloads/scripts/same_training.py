"""The training of `same_training.py` as a script."""

import argparse
import runpy
from pathlib import Path

from torch import nn
from torch.utils.data import DataLoader

parts = runpy.run_path(str(Path(__file__).parent.parent / "same_training.py"))
parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=parts["BASE_BATCH_SIZE"])
parser.add_argument("--epochs", type=int, default=10)
arguments = parser.parse_args()
model = parts["make_model"]()
optimizer = parts["make_optimizer"](model)
loader = DataLoader(parts["make_dataset"](), arguments.batch_size, shuffle=True, drop_last=True)
for _ in range(arguments.epochs):
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), parts["CLIP_GRAD_NORM"])
        optimizer.step()
