"""Which packages the user's file imports, read from its text without running it."""

import ast
from pathlib import Path


def imported_modules(path: Path) -> tuple[str, ...]:
    """Return the modules that the file imports at its top level; none where it is broken."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return ()
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
    return tuple(dict.fromkeys(names))
