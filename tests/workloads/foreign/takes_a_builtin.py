"""A builtin is set to nothing."""

import builtins

from rows import Network as make_model  # noqa: F401
from rows import make_rows as make_dataset  # noqa: F401

builtins.sorted = None
