"""The file belongs to a package and imports its neighbour."""

from .rows import Network as make_model  # noqa: F401
from .rows import make_rows as make_dataset  # noqa: F401
