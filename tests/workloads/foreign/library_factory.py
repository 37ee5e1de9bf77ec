"""A library's function has the name of a factory; the model is the class."""

from rows import Network
from rows import make_rows as make_dataset  # noqa: F401
from torch.hub import load as get_model  # noqa: F401


class Student(Network):
    pass
