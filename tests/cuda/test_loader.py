"""Batches on their way to the card."""

import pytest


@pytest.mark.parametrize(("pinned", "told"), [(".pin_memory()", "moved"), ("", "waited")])
def test_the_host_waits_for_no_copy_of_a_pinned_batch(ask, pinned, told):
    """As torch itself tells which calls wait for the device."""
    code = f"""
from advisor.training.model_file.batches import to_device
batch = {{"x": torch.zeros(8){pinned}}}
torch.cuda.init()
torch.cuda.set_sync_debug_mode("error")
try:
    to_device(batch, torch.device("cuda"))
    print("moved")
except RuntimeError:
    print("waited")
"""
    assert ask(code) == told
