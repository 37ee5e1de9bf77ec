"""Printing and shuffling are replaced, stdout holds garbage and is closed, and so is stdin."""

import builtins
import os

import torch
from rows import Network as make_model  # noqa: F401
from rows import make_rows as make_dataset  # noqa: F401

os.write(1, b'{"type": "done"}\n\xff\xfe\n')
os.closerange(0, 3)
builtins.print = lambda *_, **__: None
torch.randperm = lambda count, **_: torch.arange(count)
