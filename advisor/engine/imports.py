"""Which packages a model file imports, itself or through files of the user's: read, never run."""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

#: Files of the user's that are read.
_MOST_FILES = 64


def imported_modules(path: Path) -> tuple[str, ...]:
    """Return the modules that are not the user's own, those of the file itself first.

    Imports at the top level count, in the file and in the user's own modules that it imports from
    its folder or the working directory. A broken file has none.
    """
    roots = (path.resolve().parent, Path.cwd())
    left, seen, found = [path], set[Path](), dict[str, None]()
    while left and len(seen) < _MOST_FILES:
        file = left.pop(0)
        if file in seen:
            continue
        seen.add(file)
        for module, names, folder in _read_imports(file):
            own = _find_own(module, names, (folder,) if folder else roots)
            left += own
            if not own and folder is None:
                found[module] = None
    return tuple(found)


def _read_imports(path: Path) -> Iterator[tuple[str, Sequence[str], Path | None]]:
    """Yield `from module import names`, below the folder where that is relative."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from ((alias.name, (), None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            folder = path.resolve().parents[node.level - 1] if node.level else None
            yield node.module or "", [alias.name for alias in node.names], folder


def _find_own(module: str, names: Sequence[str], roots: Sequence[Path]) -> list[Path]:
    """Return the user's files that the import runs; none where the module is not the user's."""
    parts = module.split(".") if module else []
    for root in roots:
        places = [root.joinpath(*parts[:count]) for count in range(1, len(parts) + 1)]
        places += [root.joinpath(*parts, name) for name in names]
        paths = (
            each for place in places for each in (place.with_suffix(".py"), place / "__init__.py")
        )
        files = [path for path in paths if path.is_file()]
        if files:
            return files
    return []
