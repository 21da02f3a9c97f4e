"""What every command starts from: the plugins, loaded once, and the components that they bring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from .plugins import Plugins, Registry, load_plugins


@dataclass
class Session:
    """The plugins of one command."""

    plugins: Plugins

    @cached_property
    def registry(self) -> Registry:
        """Every component, by kind and name. Raises UsageError for a name that two plugins use."""
        return self.plugins.registry()


def open_session(disabled: Sequence[str] = ()) -> Session:
    """Load the plugins and let them look at the session. Raises UsageError."""
    session = Session(load_plugins(disabled))
    session.plugins.hook.harness_configure.call_historic(kwargs={"session": session})
    return session
