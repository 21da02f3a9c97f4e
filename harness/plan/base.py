"""A starting model on this machine, as far as a look at file names tells whether it can be opened."""

from __future__ import annotations

import re
from pathlib import Path

from ..package_files import PACKAGE, package_file

HUB_ID = r"[\w.-]+(/[\w.-]+)?(@.+)?"
PICKLED = ("*.bin", "*.pt", "*.pth")
TOKENIZER = ("*token*", "*vocab*", "*.model", "*.tiktoken", "merges.txt")


def base_problem(base: str, folder: Path, trust_remote_code: bool) -> str | None:
    """What keeps a base from being opened, in a sentence; None for what may be a Hub id. Paths count from the plan's folder.

    Code that a base brings may need no tokenizer files, and an adapter's folder neither these nor a configuration.
    """
    if base.startswith(PACKAGE):
        try:
            package_file(base)
        except ValueError as error:
            return str(error)
        return None
    try:
        path = folder / Path(base).expanduser()
        if not path.exists():
            local = base.startswith((".", "/", "~")) or base.endswith(".gguf")
            local = local or ("/" in base and not re.fullmatch(HUB_ID, base))
            # A Hub id's owner is hardly a folder of the user's.
            local = local or ("/" in base and path.parent != folder and path.parent.is_dir())
            return "there is no such file or folder; paths count from the plan's folder" if local else None
        if path.is_file():
            return None if path.suffix == ".gguf" else "is a file, and not a GGUF one; give the folder that holds the model"
        return _folder_problem(path, trust_remote_code)
    except (OSError, RuntimeError, ValueError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def _folder_problem(path: Path, trust_remote_code: bool) -> str | None:
    names = {each.name for each in path.iterdir()}
    if not _any(path, ("*.safetensors",)):
        if gguf := sorted(path.glob("*.gguf")):
            return f"no safetensors weights; name the file in it, {gguf[0].name}"
        if _any(path, PICKLED):
            return "no safetensors weights; pickled weights can run code and are refused"
        return "no safetensors weights; give the folder that holds the model"
    if not names & {"config.json", "adapter_config.json"}:
        return "no config.json; give the folder that holds the model"
    if not trust_remote_code and "config.json" in names and not _any(path, TOKENIZER):
        return "no tokenizer files in this folder, such as tokenizer.json; save the tokenizer beside the model"
    return None


def _any(folder: Path, patterns: tuple[str, ...]) -> bool:
    return any(True for pattern in patterns for _ in folder.glob(pattern))
