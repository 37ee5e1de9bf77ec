"""Saved weights put into a training: the model's, and the optimizer's where the file has them."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from advisor.errors import GivenFileError, UsageError, WorkloadError, shorten
from advisor.training.data import StepSource
from advisor.training.model_file.batches import is_finite
from advisor.training.optimizer_facts import check_rates
from advisor.training.training import Training

#: Names under which a file may hold the model's weights, and the optimizer's state.
_MODEL_KEYS = ("model", "state_dict", "model_state_dict")
_OPTIMIZER_KEYS = ("optimizer", "optimizer_state_dict", "optimizer_states")
#: Names under which it may say how far training was, and what they count.
_STEP_KEYS: dict[str, StepSource] = {"step": "steps", "global_step": "steps", "epoch": "epochs"}
#: What wrappers put in front of the names of parameters: data parallelism, torch.compile.
_PREFIXES = re.compile(r"(?:module\.|_orig_mod\.)*")
#: Keys that an error names.
_NAMED_KEYS = 3


class SavedStep(NamedTuple):
    """How far training was, and what the number counts; None where the file does not say."""

    number: int | None
    source: StepSource


def load_checkpoint(path: str, training: Training) -> SavedStep:
    """Put the file's weights into the training and return the step at which they were saved.

    The file holds tensors alone (`weights_only`): a state_dict, or a dictionary with one under
    `model`, `state_dict` or `model_state_dict`. The optimizer's state is taken where there is one.

    Raises:
        UsageError: There is no such file.
        GivenFileError: It cannot be read so, or does not fit the model file.
    """
    document = _read(path)
    weights = _find_weights(path, document)
    _check_fits(path, weights, training.model)
    trained = {name for name, _ in training.model.named_parameters()}  # a mask may hold infinity
    _refuse_broken(path, {name: each for name, each in weights.items() if name in trained})
    training.model.load_state_dict(weights)
    _load_optimizer(path, document, training)
    return _find_step(document)


def _read(path: str) -> Mapping[str, Any]:
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UsageError(
            f"cannot read the checkpoint {path}: {error.strerror}", next_step="Give another file."
        ) from None
    except Exception as error:  # noqa: BLE001 - a damaged file raises whatever its bytes happen to ask for
        raise GivenFileError(
            f"the checkpoint {path} cannot be read as weights: {shorten(error)}",
            next_step="Save tensors alone: torch.save(model.state_dict(), path).",
        ) from None
    return document if isinstance(document, Mapping) else {f"a {type(document).__name__}": None}


def _find_weights(path: str, document: Mapping[str, Any]) -> dict[str, Any]:
    found = (document.get(key) for key in _MODEL_KEYS)
    inner = next((each for each in found if isinstance(each, Mapping)), document)
    weights = {
        _PREFIXES.sub("", str(name), count=1): value
        for name, value in inner.items()
        if isinstance(value, torch.Tensor)
    }
    if not weights:
        raise GivenFileError(
            f"the checkpoint {path} holds no weights, but {_name(map(str, document))}",
            next_step="Save the state_dict itself, or under the key model.",
        )
    return weights


def _check_fits(path: str, weights: Mapping[str, Any], model: nn.Module) -> None:
    """Raise GivenFileError where names or shapes differ from the model's."""
    expected = model.state_dict()
    reshaped = [
        f"{name} is {tuple(value.shape)}, the model's {tuple(expected[name].shape)}"
        for name, value in weights.items()
        if name in expected and value.shape != expected[name].shape
    ]
    faults = {
        "missing": [name for name in expected if name not in weights],
        "not in the model": [name for name in weights if name not in expected],
        "other shapes": reshaped,
    }
    parts = [f"{what}: {_name(keys)}" for what, keys in faults.items() if keys]
    if parts:
        raise GivenFileError(
            f"the checkpoint {path} does not fit the model file: {'; '.join(parts)}",
            next_step="Let make_model build the model that was saved; --set gives it parameters.",
        )


def _refuse_broken(path: str, values: Mapping[str, Any]) -> None:
    broken = [name for name, value in values.items() if not is_finite(value)]
    if broken:
        raise GivenFileError(
            f"the checkpoint {path} holds NaN or infinity in {_name(broken)}",
            next_step="Give one from before the training diverged.",
        )


def _load_optimizer(path: str, document: Mapping[str, Any], training: Training) -> None:
    state = next((document[key] for key in _OPTIMIZER_KEYS if key in document), None)
    if isinstance(state, list | tuple):  # Lightning keeps one for each optimizer
        state = state[0] if state else None
    if not isinstance(state, Mapping):
        return
    try:
        training.optimizer.load_state_dict(dict(state))
        check_rates(training.optimizer)
    except (ValueError, KeyError, TypeError, WorkloadError) as error:
        raise GivenFileError(
            f"the optimizer's state in {path} does not fit the model file's "
            f"{type(training.optimizer).__name__}: {shorten(error)}",
            next_step="Build the same optimizer in make_optimizer, or save the weights alone.",
        ) from None
    for kept in training.optimizer.state.values():
        _refuse_broken(path, {f"the optimizer's {name}": value for name, value in kept.items()})


def _find_step(document: Mapping[str, Any]) -> SavedStep:
    for key, source in _STEP_KEYS.items():
        value = document.get(key)
        if isinstance(value, torch.Tensor) and value.numel() == 1:
            value = value.item()
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
            return SavedStep(int(value), source)
    return SavedStep(None, "order")


def _name(keys: Iterable[str]) -> str:
    """Return the first few keys, and how many more there are."""
    listed = list(keys)
    more = len(listed) - _NAMED_KEYS
    return ", ".join(listed[:_NAMED_KEYS]) + (f" and {more} more" if more > 0 else "")
