"""The user's settings of torch's allocator on a GPU."""

import os

#: Where torch reads them, the first that is there; 2.9 knows the first.
_NAMES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


def has_expandable_segments() -> bool:
    """Return whether segments grow, page by page."""
    settings = next((os.environ[name] for name in _NAMES if name in os.environ), "")
    return "expandable_segments:True" in settings
