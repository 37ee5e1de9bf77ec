"""Copies of a model that the user's file holds ready made."""

import copy
import io
from typing import Any

import torch
from torch import Tensor, nn

from advisor.errors import WorkloadError
from advisor.training.model_file.batches import tensors_of


def copy_model(model: nn.Module, name: str) -> nn.Module:
    """Return a copy of the model that can be trained; WorkloadError where it cannot be copied."""
    try:
        made = _copy_scripted(model) if isinstance(model, torch.jit.ScriptModule) else _copy(model)
    except Exception as error:
        raise WorkloadError(
            f"{name} of the model file cannot be copied ({type(error).__name__}: {error})",
            next_step="Make it in a function: def make_model(): return ...",
        ) from error
    return made


def _copy(model: nn.Module) -> nn.Module:
    """Return a deep copy; what a forward pass left behind is copied without its graph."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for tensor in tensors_of([*vars(module).values()]):
            if not tensor.is_leaf:
                memo[id(tensor)] = tensor.detach().clone()
    return copy.deepcopy(model, memo)


def _copy_scripted(model: Any) -> nn.Module:
    """Return a copy by way of a file: a deep copy of a scripted module shares no leaves."""
    file = io.BytesIO()
    torch.jit.save(model, file)
    file.seek(0)
    made: nn.Module = torch.jit.load(file)  # type: ignore[no-untyped-call]
    for old, new in zip(model.parameters(), made.parameters(), strict=True):
        assert isinstance(new, Tensor)
        new.requires_grad_(old.requires_grad)
    return made
