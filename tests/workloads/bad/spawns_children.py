"""Starts a process in a session of its own, then hangs: neither may outlive the command."""

import subprocess
import time

import torch


def make_model():
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    time.sleep(100_000)


def make_batch(batch_size):
    return torch.randn(batch_size, 8), torch.randint(3, (batch_size,))
