"""The pretended cards themselves: what torch sees of them."""

GIB = 1 << 30


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
