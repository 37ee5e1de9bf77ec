"""A process that shares the card: it holds as much of it as it is told to."""

import subprocess
import sys

#: Each line is what to hold from here on, beside a context; a worker may just be leaving.
CODE = """
import sys, time, torch
held = torch.ones(1, device="cuda")
print(flush=True)
for line in sys.stdin:
    held = None
    torch.cuda.empty_cache()
    while held is None:
        try:
            held = torch.empty(int(line), dtype=torch.uint8, device="cuda")
        except torch.OutOfMemoryError:
            time.sleep(0.05)
    print(flush=True)
"""


class Neighbour:
    """On the card from here on."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-c", CODE], stdin=-1, stdout=-1, text=True
        )
        self._process.stdout.readline()

    def hold(self, size):
        """Hold so many bytes; return once it does."""
        self._process.stdin.write(f"{size}\n")
        self._process.stdin.flush()
        self._process.stdout.readline()

    def leave(self):
        """End it."""
        self._process.communicate()
