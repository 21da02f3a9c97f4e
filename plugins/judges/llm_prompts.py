"""What a language model reads as a judge: a template, filled in with texts that nothing in them can get out of."""

from __future__ import annotations

import hashlib
import importlib.resources
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

import harness

SUFFIX = ".txt"
SECTIONS = re.compile(r"^\[(system|user)\][ \t]*$", re.MULTILINE)
Messages = tuple[Mapping[str, str], ...]


@dataclass(frozen=True)
class JudgePrompt:
    """A template's parts, in order: a role, and a text with $placeholders."""

    parts: tuple[tuple[str, Template], ...]

    def fill(self, texts: Mapping[str, str]) -> Messages:
        """Chat messages. What is filled in is not looked at again, so a $placeholder in an answer stays what it is."""
        return tuple({"role": role, "content": part.substitute(texts).strip()} for role, part in self.parts)


def template_problem(template: str, folder: Path, placeholders: Sequence[str]) -> str | None:
    """What is wrong with a template, in a sentence; None if nothing is."""
    try:
        load_template(template, folder, placeholders)
    except harness.UsageError as error:
        return str(error)
    return None


def load_template(template: str, folder: Path, placeholders: Sequence[str]) -> JudgePrompt:
    """A packaged template by its name, or a file that counts from `folder`. Raises UsageError."""
    return parse_template(template_text(template, folder), template, placeholders)


def template_text(template: str, folder: Path) -> str:
    """The text of a packaged template or of a file. Raises UsageError."""
    if template in (packaged := packaged_templates()):
        return (importlib.resources.files(f"{__package__}.templates") / f"{template}{SUFFIX}").read_text(encoding="utf-8")
    try:
        return (folder / template).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise harness.UsageError(
            f"{folder / template}: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}; give a file, "
            f"counted from the plan's folder, or one of {', '.join(packaged)}"
        ) from None


def packaged_templates() -> list[str]:
    """The names of the templates that come with the package; the number at the end is the version."""
    files = importlib.resources.files(f"{__package__}.templates")
    return sorted(each.name.removesuffix(SUFFIX) for each in files.iterdir() if each.name.endswith(SUFFIX))


def parse_template(text: str, name: str, placeholders: Sequence[str]) -> JudgePrompt:
    """A template from its text: lines [system] and [user] begin its parts. Raises UsageError for one that cannot work."""
    _, *pieces = SECTIONS.split(text)
    parts = tuple((role, Template(body)) for role, body in zip(pieces[::2], pieces[1::2], strict=True))
    if not parts or parts[-1][0] != "user":
        raise harness.UsageError(f"{name}: a template ends with a part that a line `[user]` begins")
    if not all(part.is_valid() for _, part in parts):
        raise harness.UsageError(f"{name}: a `$` begins a placeholder; write `$$` for the sign itself")
    found = {each for _, part in parts for each in part.get_identifiers()}
    known = [*placeholders]
    if unknown := sorted(found.difference(known)):
        raise harness.UsageError(
            f"{name}: unknown placeholder ${unknown[0]}; there are {', '.join(f'${n}' for n in known)}"
        )
    if missing := [each for each in known if each not in found]:
        raise harness.UsageError(f"{name}: ${missing[0]} is missing; the judge would not see it")
    return JudgePrompt(parts)


def fence(*texts: str) -> str:
    """A code that occurs in none of the texts, made from them: who writes one of them cannot know it beforehand."""
    code = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
    while any(code in text for text in texts):
        code = hashlib.sha256(code.encode()).hexdigest()[:16]
    return code


def fenced(what: str, text: str, code: str) -> str:
    """A text between two lines that carry the code."""
    return f"<<<{what} {code}>>>\n{text}\n<<<end of {what} {code}>>>"


def conversation(prompt: harness.Prompt) -> str:
    """A prompt as text, each turn under its role."""
    return "\n\n".join(f"{message.role}: {message.content}" for message in prompt)


def upper_tokens(messages: Messages) -> int:
    """More tokens than any tokenizer makes of these messages: one per byte, and room for what a chat template adds."""
    return 256 + sum(len(message["content"].encode()) for message in messages)


def likely_tokens(text: str) -> int:
    """About how many tokens a text has: one for every four characters, the rule of thumb for English."""
    return -(-len(text) // 4)
