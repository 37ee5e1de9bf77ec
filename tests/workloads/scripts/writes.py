"""Prints, writes files of several kinds while it trains, and would save in the end."""

import atexit
import os
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

size = int(os.environ.get("BSADVISOR_BATCH_SIZE", "16"))
os.write(1, b"\xff\x00garbage\r\n" * 50)
atexit.register(lambda: Path("at_exit.txt").write_text("saved"))
model = nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
Path("log.txt").write_text("begun")
torch.save(model.state_dict(), "first.pt")
Path("part").write_text("whole")
Path("part").rename("whole.txt")
Path("gone.txt").write_text("removed again")
Path("gone.txt").unlink()
Path("/dev/null").write_text("nothing")
with tempfile.TemporaryFile() as kept:
    kept.write(b"nothing")
try:
    for step in range(200):
        print("step", step, "\x1b[31m", file=sys.stderr)
        optimizer.zero_grad()
        model(torch.randn(size, 8)).square().mean().backward()
        optimizer.step()
finally:
    torch.save(model.state_dict(), "last.pt")
