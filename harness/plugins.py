"""Finding plugins, and the components that they add."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from . import hookspecs
from .errors import UsageError

if TYPE_CHECKING:
    from .components import Component
    from .health import Rule

GROUP = "harness"
COMPONENTS = ("aligner", "judge", "metric", "source", "backend")


@dataclass(frozen=True)
class Plugin:
    """A plugin as it was found; `error` says why it could not be loaded, if it could not."""

    name: str
    distribution: str
    version: str
    module: str
    error: str | None = None


@dataclass
class Plugins:
    """The plugin manager, the plugins behind it, and the names of those that were left out."""

    manager: pluggy.PluginManager
    found: list[Plugin] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def hook(self) -> Any:
        """Call every plugin's implementation of a hook, by keyword."""
        return self.manager.hook

    @property
    def broken(self) -> list[Plugin]:
        """Plugins that failed to load."""
        return [plugin for plugin in self.found if plugin.error]

    def registry(self) -> Registry:
        """All components of all plugins.

        Raises UsageError if two plugins use one name for the same kind of thing, or if a method could not be called.
        """
        by_name = {plugin.name: plugin for plugin in self.found}
        entries: dict[tuple[str, str], Entry] = {}
        for kind in COMPONENTS:
            for implementation in getattr(self.hook, f"harness_{kind}s").get_hookimpls():
                plugin = by_name.get(implementation.plugin_name) or _unpackaged(implementation)
                for component in implementation.function():
                    if problem := misfit(component):
                        raise UsageError(
                            f"plugin {plugin.name!r} ({plugin.module}): {problem}; mend it, or leave it out with --no-plugin {plugin.name}"
                        )
                    entry = Entry(kind, component.name, component, plugin)
                    taken = entries.setdefault((kind, component.name), entry)
                    if taken.component is not component:
                        raise UsageError(
                            f"{kind} {component.name!r} is defined by plugin {taken.plugin.name!r} ({taken.plugin.module}) and by "
                            f"{plugin.name!r} ({plugin.module}); disable one with --no-plugin NAME"
                        )
        return Registry(entries, tuple(self.broken), tuple(self._rules(by_name)), tuple(self.left_out))

    def _rules(self, by_name: Mapping[str, Plugin]) -> Iterator[Rule]:
        """The health rules of all plugins. Raises UsageError if two plugins bring rules of one name for one aligner."""
        owners: dict[tuple[str, str], Plugin] = {}
        for implementation in self.hook.harness_health_rules.get_hookimpls():
            plugin = by_name.get(implementation.plugin_name) or _unpackaged(implementation)
            for rule in implementation.function():
                owner = owners.setdefault((rule.aligner, rule.name), plugin)
                if owner != plugin:
                    raise UsageError(
                        f"health rule {rule.name!r} of {rule.aligner!r} is defined by plugin {owner.name!r} ({owner.module}) "
                        f"and by {plugin.name!r} ({plugin.module}); disable one with --no-plugin NAME"
                    )
                yield rule


@dataclass(frozen=True)
class Entry:
    """A component with the plugin that brought it."""

    kind: str
    name: str
    component: Any
    plugin: Plugin

    def identity(self) -> dict[str, str]:
        """What a key says of this component: its name, its distribution's version, and the hash of its source."""
        return {
            "kind": self.kind,
            "name": self.name,
            "version": f"{self.plugin.distribution} {self.plugin.version}",
            "source": source_hash(self.component.__module__),
        }


@dataclass(frozen=True)
class Registry:
    """Components by kind and name, and the health rules."""

    entries: Mapping[tuple[str, str], Entry]
    broken: Sequence[Plugin] = ()
    rules: Sequence[Rule] = ()
    left_out: Sequence[str] = ()

    def names(self, kind: str) -> list[str]:
        """The names of one kind of component, sorted."""
        return sorted(name for each, name in self.entries if each == kind)

    def get(self, kind: str, name: str) -> Entry | None:
        """The component of that name, or None."""
        return self.entries.get((kind, name))

    def component(self, kind: str, name: str) -> Any:
        """The component class of that name, which the checked plan is known to have."""
        return self.entries[kind, name].component


def load_plugins(disabled: Sequence[str] = ()) -> Plugins:
    """A fresh plugin manager with every installed plugin.

    `disabled` names plugins that are left out. With HARNESS_DISABLE_PLUGIN_AUTOLOAD set to anything but "" or "0" only the
    built-in ones load. A plugin that fails to import is recorded, not raised: a plan may not need it. A hook that does not
    exist is an error of the plugin: UsageError names both.
    """
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    plugins = Plugins(manager)
    alone = os.environ.get("HARNESS_DISABLE_PLUGIN_AUTOLOAD", "0") not in {"", "0"}
    known = set()
    for point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda point: (not _built_in(point), point.name)):
        known.add(point.name)
        if point.name in disabled or (alone and not _built_in(point)):
            plugins.left_out.append(point.name)
            continue
        distribution, version = (point.dist.name, point.dist.version) if point.dist else ("unknown", "unknown")
        error = None
        try:
            manager.register(point.load(), name=point.name)
        except Exception as problem:  # a plugin may fail in any way, and none of them may take the command down
            error = f"{type(problem).__name__}: {problem}"
        plugins.found.append(Plugin(point.name, distribution, version, point.value, error))
    unknown = sorted(set(disabled) - known)
    if unknown:
        raise UsageError(f"--no-plugin {unknown[0]}: no such plugin; there are {', '.join(sorted(known))}")
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as problem:
        raise UsageError(
            f"plugin {manager.get_name(problem.plugin)!r}: {problem}; see harness.hookspecs for the hooks"
        ) from None
    return plugins


def _built_in(point: importlib.metadata.EntryPoint) -> bool:
    return point.value.partition(".")[0] in {"harness_plugins", "harness_reports"}


def _unpackaged(implementation: pluggy.HookImpl) -> Plugin:
    module = getattr(implementation.plugin, "__name__", str(implementation.plugin))
    return Plugin(implementation.plugin_name, "unpackaged", "0", module)


@cache
def source_hash(module: str) -> str:
    """SHA-256 over a module's source and that of every module of its own package, or of the engine, that it imports.

    A module of the core belongs to its subpackage, such as `harness.stats`. The imports are read from the source, nothing is
    executed, so that a key costs no import of torch.
    """
    digest = hashlib.sha256()
    for name, source in sorted(_closure(module, {}).items()):
        digest.update(f"{name}\0{len(source)}\0".encode() + source)
    return digest.hexdigest()


def _closure(module: str, seen: dict[str, bytes]) -> dict[str, bytes]:
    found = _read(module)
    if module in seen or found is None:
        return seen
    seen[module], names = found
    parts = module.split(".")
    own = parts[:2] if parts[0] == "harness" else parts[:1]
    for name in names:
        if name.split(".")[: len(own)] == own or name.startswith("harness.engine"):
            _closure(name, seen)
    return seen


@cache
def _read(module: str) -> tuple[bytes, tuple[str, ...]] | None:
    """A module's source and the names that it imports; None for what is no module in Python source."""
    path = _source_path(module)
    if path is None:
        return None
    source = path.read_bytes()
    return source, tuple(_imports(source, module if path.name == "__init__.py" else module.rpartition(".")[0]))


def _imports(source: bytes, package: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parent, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _source_path(module: str) -> Path | None:
    """Where a module's source is. Only its top-level package is looked up by the import system, so nothing is imported."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    folders = spec.submodule_search_locations
    if not folders:
        candidates = [Path(spec.origin)] if spec.origin and not rest else []
    else:
        paths = [Path(folder, *rest) for folder in folders]
        candidates = [each for path in paths for each in (path.with_name(f"{path.name}.py"), path / "__init__.py")]
    return next((path for path in candidates if path.is_file() and path.suffix == ".py"), None)


def misfit(component: Any) -> str | None:
    """Which method of a component does not take what it will be given, in a sentence; None where all do.

    What a method of a base class of the core takes, by position, one that overrides it must take, whatever it calls it.
    """
    for base in inspect.getmro(component) if isinstance(component, type) else ():
        if base.__module__.partition(".")[0] != "harness":
            continue
        for name, method in vars(base).items():
            own = inspect.getattr_static(component, name)
            if name.startswith("_") or not inspect.isfunction(method) or own is method:
                continue
            expected = list(inspect.signature(method).parameters)
            given = expected[1:] if isinstance(own, classmethod | staticmethod) else expected
            try:
                inspect.signature(getattr(component, name)).bind(*given)
            except TypeError:
                return (
                    f"{component.__name__}.{name} cannot be called as it will be; expected "
                    f"{name}({', '.join(expected)}), as harness.{base.__name__} has it"
                )
            except ValueError:  # what is not written in Python may have no signature
                continue
    return None


def describe(component: type[Component]) -> str:
    """The first line of a component's docstring."""
    return (inspect.getdoc(component) or "").partition("\n")[0]


__all__ = ["COMPONENTS", "Entry", "Plugin", "Plugins", "Registry", "describe", "load_plugins", "misfit", "source_hash"]
