"""Trains a model file in a loop as anyone writes it, and writes each step's loss with its time.

Run: python follow_model.py OUT SECONDS SEED MODEL.py BATCH RATE. It shares no code with the tool:
a DataLoader that shuffles and drops what is left over, clipping and loss where the file has them.
"""

import importlib.util
import json
import sys
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader

OUT, SECONDS, SEED = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
PATH, BATCH, RATE = sys.argv[4], int(sys.argv[5]), float(sys.argv[6])

sys.path.insert(0, ".")
spec = importlib.util.spec_from_file_location("followed", PATH)
assert spec is not None
assert spec.loader is not None
user = importlib.util.module_from_spec(spec)
sys.modules["followed"] = user
spec.loader.exec_module(user)

torch.manual_seed(SEED)
model = user.make_model()
model.train()
optimizer = user.make_optimizer(model)
for group in optimizer.param_groups:
    group["lr"] = RATE
loader = DataLoader(user.make_dataset(), BATCH, shuffle=True, drop_last=True)
loss_fn = getattr(user, "loss_fn", lambda model, batch: model(batch))
clip = getattr(user, "CLIP_GRAD_NORM", None)
steps: list[tuple[float, float]] = []
began = time.perf_counter()
while not steps or steps[-1][0] < SECONDS:
    for batch in loader:
        optimizer.zero_grad()
        loss = loss_fn(model, batch)
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        steps.append((time.perf_counter() - began, float(loss.detach())))
        if steps[-1][0] >= SECONDS:
            break
OUT.write_text(json.dumps(steps))
