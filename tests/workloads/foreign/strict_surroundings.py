"""Warnings are errors, numbers are double, signals and threads are the file's."""

import signal
import threading
import time
import warnings

import torch

warnings.simplefilter("error")
torch.set_default_dtype(torch.float64)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD):
    signal.signal(number, signal.SIG_IGN)
threading.Thread(target=time.sleep, args=(600,)).start()

from rows import INPUTS, LABELS  # noqa: E402
from rows import Network as make_model  # noqa: E402, F401


def make_dataset():
    return torch.utils.data.TensorDataset(INPUTS, LABELS)
