"""The command line. Each command lives in a module of its own and is imported when it is called."""

from __future__ import annotations

import gc
import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import click

from ..errors import HarnessError, Interrupted

COMMANDS = {
    "analyze": "Win rates, differences and a ranking from judgements of elsewhere.",
    "ask": "Answer a prompt with every model of a run, side by side.",
    "check": "Validate a plan; print its stages and what is in the store.",
    "doctor": "What this machine has, and what stands in a plan's way.",
    "init": "Write a plan to start from.",
    "plugins": "List the installed plugins, begin a new one, try one.",
    "run": "Train, compare and report, as a plan says.",
    "schema": "Print the JSON Schema of the plan, for editors.",
    "score": "Score answers with a reward model.",
    "store": "List what the store keeps; remove what no run uses.",
}

SPINS = "10000"
"""How often a waiting thread of libgomp, torch's on Linux, looks again before it sleeps; its own 300,000 starve other processes."""


class Commands(click.Group):
    """Built-in commands by name, imported when called; those of plugins are added when the plugins are loaded."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Every command, sorted."""
        _plugins(context)
        return sorted({*COMMANDS, *super().list_commands(context)})

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command of that name."""
        if name in COMMANDS:
            command: click.Command = importlib.import_module(f".{name}", __name__).command
            return command
        _plugins(context)
        return super().get_command(context, name)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in the help, without importing the built-in ones."""
        rows = []
        for name in self.list_commands(context):
            added = None if name in COMMANDS else super().get_command(context, name)
            rows.append((name, added.get_short_help_str(80) if added else COMMANDS.get(name, "")))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _plugins(context: click.Context) -> None:
    """Load the plugins, once, and let them add their commands."""
    if context.obj is None:
        from ..session import open_session

        context.obj = open_session(context.params.get("no_plugin") or ())
        context.obj.plugins.hook.harness_commands(cli=context.command)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--no-plugin", multiple=True, is_eager=True, metavar="NAME", help="Leave a plugin out; may be repeated.")
@click.version_option(package_name="alignment-harness", prog_name="harness")
@click.pass_context
def cli(context: click.Context, /, **_: object) -> None:
    """Train alignment methods from one plan, compare them, and report every number with its uncertainty."""
    _plugins(context)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: runs a command and exits with its status. A HarnessError becomes its text; a bug keeps its traceback."""
    signal.signal(signal.SIGTERM, _interrupt)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what a terminal's encoding lacks; in JSON, too, it is an escape
    # A run reads tens of thousands of records, which the collector would look through again and again: a quarter of a rerun.
    gc.set_threshold(100_000, 50, 100)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read once, as torch is imported; see docs/performance.md
    try:
        status: Any = cli.main(args=arguments, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        status = _told(Interrupted("interrupted"))
    except HarnessError as error:
        status = _told(error)
    except BrokenPipeError:
        # Whoever read our output has gone; nothing more can be said to them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status if isinstance(status, int) else 0)


def _told(error: HarnessError) -> int:
    click.echo(str(error), err=True)
    return error.status


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
