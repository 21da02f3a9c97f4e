"""Built-in sources: where rows come from."""

from __future__ import annotations

import harness


@harness.hookimpl
def harness_sources() -> list[type[harness.Source]]:
    from .conversations import Conversations
    from .hh_rlhf import HHRLHF
    from .preferences import Preferences
    from .prompts import Prompts
    from .toy import Toy

    return [Conversations, HHRLHF, Preferences, Prompts, Toy]
