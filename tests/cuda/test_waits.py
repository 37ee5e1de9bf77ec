"""Where the host waits for the card, by torch's own word: its debug mode raises at such calls."""

import pytest


@pytest.mark.parametrize(("pinned", "told"), [(".pin_memory()", "went on"), ("", "waited")])
def test_the_host_waits_for_no_copy_of_a_pinned_batch(ask, pinned, told):
    code = f"""
from advisor.training.model_file.batches import to_device
batch = {{"x": torch.zeros(8){pinned}}}
torch.cuda.init()
torch.cuda.set_sync_debug_mode("error")
try:
    to_device(batch, torch.device("cuda"))
    print("went on")
except RuntimeError:
    print("waited")
"""
    assert ask(code) == told


def test_calibration_and_noise_make_their_numbers_on_the_card(ask):
    code = """
import itertools
from advisor.noise.measure_moments import GroupSums
from advisor.throughput.measure_blocks import make_product
from advisor.training.loop import train
from advisor.training.model_file.workload import Workload
from tests.cuda.conftest import workload
model = Workload(workload("mlp"))
training, batch = model.make_training(), model.take(range(4))
sums = GroupSums(training, 8, 4, rounds=2, place="device")
torch.cuda.set_sync_debug_mode("error")
make_product(torch.device("cuda"))()
train(training, itertools.repeat(batch), [sums], micro_batch_size=4, is_frozen=True, most_steps=3)
print("went on")
"""
    assert ask(code) == "went on"
