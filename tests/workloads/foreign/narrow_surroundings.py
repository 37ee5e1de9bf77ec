"""The import leaves no path and little room to recurse."""

import sys

from rows import Network as make_model  # noqa: F401
from rows import make_rows as make_dataset  # noqa: F401

sys.path.clear()
sys.setrecursionlimit(60)
