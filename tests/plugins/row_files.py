"""Rows of preferences and chats, as a file of JSON lines and as a source reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import harness

Rows = Sequence[Mapping[str, Any]]

USER, ASSISTANT = "user", "assistant"
DIALOGUE = "\n\nHuman: Hi there\n\nAssistant: Hello.\n\nHuman: Why?\n\nAssistant:"


def lines(rows: Rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def load(source: type[harness.Source], folder: Path, rows: Rows) -> harness.Loaded:
    (folder / "rows.jsonl").write_text(lines(rows), encoding="utf-8")
    return source().load(source.Config.model_validate({"path": "rows.jsonl"}), folder)


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def said(prompt: harness.Prompt) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in prompt]
