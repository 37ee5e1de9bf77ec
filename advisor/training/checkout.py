"""Another checkout of the user's repository in place of the one that is installed and worked in."""

import os
import sys
from pathlib import Path

from advisor.errors import UsageError
from advisor.training.data import Checkout


def enter_checkout(checkout: Checkout) -> None:
    """Make it the working directory, and have Python look there for what it found in the other.

    An editable install names the other on `sys.path`; what the checkout lacks, as an environment
    that lies in the repository, stays.
    """
    root, own = Path(checkout.root), Path(checkout.instead_of)
    os.chdir(root / checkout.folder)
    sys.path[:] = [_find_counterpart(path, own, root) for path in sys.path]
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(_find_counterpart(p, own, root) for p in paths)


def refuse_strangers(checkout: Checkout | None) -> None:
    """Raise UsageError where a module came from the repository itself, by an editable install."""
    if checkout is None:
        return
    root, own = Path(checkout.root), Path(checkout.instead_of)
    for name, module in [*sys.modules.items()]:
        file = getattr(module, "__file__", None) or ""
        found = _find_counterpart(file, own, root)
        if found != file and Path(found).resolve().is_relative_to(root.resolve()):
            raise UsageError(
                f"{name} was loaded from {file}, not from the revision in {root}",
                next_step="Its editable install leads Python there: uninstall it, and run with "
                "PYTHONPATH, as in PYTHONPATH=src bsadvisor check ...",
            )


def _find_counterpart(path: str, own: Path, root: Path) -> str:
    """Return the path in the checkout of one in the repository, where there is one."""
    if not path or not Path(path).is_relative_to(own):
        return path
    counterpart = root / Path(path).relative_to(own)
    return str(counterpart) if counterpart.exists() else path
