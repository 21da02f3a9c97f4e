"""Files inside installed packages, as a plan names them: `package://PACKAGE/path/file.gguf`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

PACKAGE = "package://"


def package_file(base: str) -> Path:
    """The file that `package://PACKAGE/path` names. Raises ValueError with what is wrong with it."""
    package, _, inside = base.removeprefix(PACKAGE).partition("/")
    if not package or not inside:
        raise ValueError(f"names no file in a package; write {PACKAGE}PACKAGE/file.gguf")
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        found = None
    if found is None or not found.submodule_search_locations:
        raise ValueError(f"there is no package {package}; install it, or give a Hub id or a folder")
    file = Path(next(iter(found.submodule_search_locations))) / inside
    if not file.is_file():
        raise ValueError(f"the package {package} has no file {inside}; give one that it has")
    return file
