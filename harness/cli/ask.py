"""`harness ask`: one prompt, every model of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import click

from ..components import Artifact, GenerateOptions
from ..errors import UsageError
from ..records import Message
from ..rundir import find_run
from ..session import Session
from ..store import check_result
from .models import run_compute, run_models, store_option


def _finite(_context: click.Context, _parameter: click.Parameter, value: float) -> float:
    """Refuse what FloatRange lets through: NaN and infinity."""
    if not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number.")
    return value


@click.command("ask", short_help="Answer a prompt with every model of a run, side by side.")
@click.argument("run")
@click.argument("prompt")
@click.option("--model", "models", multiple=True, metavar="STAGE", help="Only this model; may be repeated.")
@click.option("--max-new-tokens", type=click.IntRange(1, 2**20), default=128, show_default=True)
@click.option(
    "--temperature",
    type=click.FloatRange(0),
    callback=_finite,
    default=1.0,
    show_default=True,
    help="0 takes the likeliest token.",
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@store_option
@click.pass_obj
def command(
    session: Session,
    run: str,
    prompt: str,
    models: Sequence[str],
    max_new_tokens: int,
    temperature: float,
    seed: int,
    store: Path,
) -> None:
    """Answer PROMPT with every model of RUN, a run folder or `latest`, side by side."""
    if not prompt.strip():
        raise UsageError("PROMPT is empty; write what the models shall answer")
    if any("\ud800" <= letter <= "\udfff" for letter in prompt):
        raise UsageError("PROMPT is not UTF-8 text; write it in the terminal's encoding")
    found = find_run(run)
    available = run_models(found, store, "model")
    for name in models:
        if name not in available:
            raise UsageError(f"--model {name}: the run has no such model; it has {', '.join(available)}")
    chosen = models or [name for name in available if name != "base"]
    if not chosen:
        raise UsageError(f"{found.path}: this run trained no model; run its plan again")
    options = GenerateOptions(max_new_tokens=max_new_tokens, temperature=temperature)
    backend = session.registry.component("backend", options.backend)()
    compute = run_compute(found)
    messages = (Message(role="user", content=prompt),)
    for name in chosen:
        check_result(available[name])
    for name in chosen:
        artifact = Artifact(name, "model", available[name], "")
        (answer,) = backend.generate(artifact, [messages], options, [seed], compute)
        cut = " (cut at --max-new-tokens)" if answer.finish == "length" else ""
        click.echo(f"── {name}{cut}\n{answer.text}\n")
