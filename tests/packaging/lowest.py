"""Writes constraints that pin every dependency of a pyproject.toml to its lower bound: lowest.py PYPROJECT OUTPUT."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement


def lowest(requirement: str) -> str:
    """ "name>=1.2" → "name==1.2". Raises ValueError for a requirement without exactly one lower bound."""
    parsed = Requirement(requirement)
    bounds = [each.version for each in parsed.specifier if each.operator == ">="]
    if len(bounds) != 1:
        raise ValueError(f"{requirement}: a dependency has one lower bound, written with >=")
    return f"{parsed.name}=={bounds[0]}"


if __name__ == "__main__":
    project = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
    Path(sys.argv[2]).write_text("".join(lowest(each) + "\n" for each in project["dependencies"]), encoding="utf-8")
