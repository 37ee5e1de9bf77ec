"""The enforced limit against an independent count of the bytes of all tensors."""

import importlib.util
import weakref
from pathlib import Path

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from advisor.memory.plan import MAX_OOMS, MAX_PROBES, MEMORY
from tests.integration.asked import ask

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shared_servers")]

WORKLOADS = Path(__file__).parent.parent / "workloads" / "memory"
PATHS = sorted(WORKLOADS.glob("*.py"))
#: Of the perceptron, whose fixed share is large, twice as much: four per cent are to hold it.
LIMITS_BYTES = {"convolutions": 1 << 28, "perceptron": 1 << 29, "transformer": 1 << 28}


class StorageCount(TorchDispatchMode):
    """Counts the bytes of all living storages, and their peak."""

    def __init__(self):
        super().__init__()
        self.live_bytes = self.peak_bytes = 0
        self._seen = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in tree_flatten(result)[0]:
            if isinstance(value, torch.Tensor):
                self._note(value.untyped_storage())
        return result

    def _note(self, storage):
        key = storage._cdata
        if key not in self._seen:
            self._seen.add(key)
            self.live_bytes += storage.nbytes()
            self.peak_bytes = max(self.peak_bytes, self.live_bytes)
            weakref.finalize(storage, self._free, key, storage.nbytes())

    def _free(self, key, size):
        self._seen.discard(key)
        self.live_bytes -= size


def count_peak_bytes(path, batch_size, device="meta"):
    """Return the peak of a training loop written as anyone writes it.

    On `meta` nothing is computed, and all tensors are as large as elsewhere.
    """
    specification = importlib.util.spec_from_file_location(path.stem, path)
    user = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(user)
    with StorageCount() as count, torch.device(device):
        model = user.make_model()
        make_optimizer = getattr(user, "make_optimizer", None)
        optimizer = (
            make_optimizer(model) if make_optimizer else torch.optim.AdamW(model.parameters())
        )
        inputs, targets = user.make_batch(batch_size)
        for _ in range(2):
            outputs = model(inputs)
            loss = functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return count.peak_bytes


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_count_without_numbers_is_that_with_them(path):
    assert count_peak_bytes(path, 3) == count_peak_bytes(path, 3, "cpu")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_largest_batch_is_within_four_per_cent_below_the_truth(path):
    limit_bytes = LIMITS_BYTES[path.stem]
    limits = {"memory_limit_bytes": limit_bytes, "budget_s": 1000.0}
    memory = ask("memory", target=path, **limits).of(MEMORY)
    assert memory.limited_by == "memory"
    assert memory.verified
    assert memory.probes <= MAX_PROBES
    assert memory.ooms <= MAX_OOMS
    found = memory.max_micro_batch_size
    assert count_peak_bytes(path, found) <= limit_bytes
    assert count_peak_bytes(path, int(found * 1.04) + 1) > limit_bytes
