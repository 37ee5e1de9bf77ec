"""The model is an instance that cannot be copied."""

import threading

from rows import Network
from rows import make_rows as make_dataset  # noqa: F401

network = Network()
network.lock = threading.Lock()
