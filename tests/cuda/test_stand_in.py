"""The pretended cards themselves: what torch sees of them."""

import pytest

from tests.cuda.by_hand import BusTask

GIB = 1 << 30
SECOND = "GPU-7374616e-642d-696e-2d63-6172642d3031"


def test_a_neighbours_memory_is_not_free_and_its_end_gives_it_back(ask, cards):
    cards(memory_bytes=8 * GIB, context_bytes=GIB)
    code = """
import subprocess, sys
neighbour = "import torch; x = torch.ones(1 << 29, device='cuda'); print(); input()"
free = [torch.cuda.mem_get_info()[0] >> 30]
child = subprocess.Popen([sys.executable, '-c', neighbour], stdin=-1, stdout=-1)
child.stdout.readline()
free.append(torch.cuda.mem_get_info()[0] >> 30)
child.communicate(b'\\n')
print(free + [torch.cuda.mem_get_info()[0] >> 30])
"""
    assert ask(code) == "[7, 4, 7]"


@pytest.mark.parametrize(("visible", "bus"), [("1", 2), ("1,0", 2), (SECOND, 2), ("7", 0)])
def test_visible_devices_are_chosen_by_index_or_uuid(run, cards, visible, bus):
    cards(cards=2)
    assert run(BusTask(visible=visible)) == (bus,)
