"""A package in the working directory is imported, as `python -m` allows."""

from rows import make_rows as make_dataset  # noqa: F401

from tests.workloads.foreign.rows import Network as make_model  # noqa: F401
