"""Waiting for the device, so that a clock read afterwards tells the truth."""

import torch


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that was issued to it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def release_cached_memory(device: torch.device) -> None:
    """Give cached, unused memory back, so that one batch size does not fragment the next."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
