"""What the user's file puts in place of Python's and torch's own: a failure is told as such.

What works on a broken interpreter must lean on nothing that may be broken: no builtin is called.
"""

import sys
from types import ModuleType

#: Modules that this program and torch call by name.
_WATCHED = (
    "builtins",
    "gc",
    "itertools",
    "math",
    "os",
    "random",
    "time",
    "torch",
    "torch.nn",
    "torch.nn.functional",
    "torch.optim",
    "torch.utils.data",
)


class Originals:
    """The names of those modules as they are now."""

    def __init__(self) -> None:
        self._modules: list[tuple[str, ModuleType, dict[str, object]]] = [
            (name, sys.modules[name], dict(vars(sys.modules[name])))
            for name in _WATCHED
            if name in sys.modules
        ]

    def restore(self) -> list[str]:
        """Put back what was replaced or deleted since; return the names of it."""
        replaced = []
        for module_name, module, originals in self._modules:
            now = module.__dict__
            for name, original in originals.items():
                if name in now and now[name] is original:
                    continue
                if module_name != "builtins" and name[:1] == "_":  # the module's own affair
                    continue
                now[name] = original
                replaced.append(f"{module_name}.{name}")
        return replaced
