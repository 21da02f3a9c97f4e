"""Every hook, when it is called, what it must return, and what an error in it does.

A plugin implements a hook as a function of the same name, marked with `harness.hookimpl`, in the module that its entry point
in the group `harness` names. It may leave out arguments that it does not need.

An exception in a hook ends the command. A HarnessError is shown as one line; anything else is a bug of the plugin and keeps
its traceback. The same goes for what hooks bring, but for an aligner's `run`, in which an exception fails the stage: after a
HarnessError the stages that do not build on it go on. A judge, metric, source, backend or rule that raises ends the run, whose
report is still written.

A component whose methods do not take the arguments that they will be given, by position, is an error as soon as it is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import click

    from .components import Aligner, Backend, Source
    from .errors import Problem
    from .health import Rule
    from .judges import Judge
    from .metrics import Metric
    from .plan import Plan
    from .rundir import RunFolder
    from .session import Session
    from .stages import StageJob

hookspec = pluggy.HookspecMarker("harness")


@hookspec
def harness_aligners() -> Sequence[type[Aligner]]:  # type: ignore[empty-body]
    """Return aligner classes. Called once per command; a name taken twice is an error that names both plugins."""


@hookspec
def harness_judges() -> Sequence[type[Judge]]:  # type: ignore[empty-body]
    """Return judge classes. Called once per command; a name taken twice is an error that names both plugins."""


@hookspec
def harness_metrics() -> Sequence[type[Metric]]:  # type: ignore[empty-body]
    """Return metric classes. Called once per command; a name taken twice is an error that names both plugins."""


@hookspec
def harness_sources() -> Sequence[type[Source]]:  # type: ignore[empty-body]
    """Return source classes. Called once per command; a name taken twice is an error that names both plugins."""


@hookspec
def harness_backends() -> Sequence[type[Backend]]:  # type: ignore[empty-body]
    """Return backend classes. Called once per command; a name taken twice is an error that names both plugins."""


@hookspec
def harness_health_rules() -> Sequence[Rule]:  # type: ignore[empty-body]
    """Return rules that watch what aligners train, your own or others'. Called once per command.

    Rules of one name for one aligner must come from one plugin; otherwise it is an error that names both. An exception in a
    rule's `look` ends the command.
    """


@hookspec
def harness_commands(cli: click.Group) -> None:
    """Add Click commands to `cli`. Called before the command line is parsed, for `harness --help` too: import late."""


@hookspec(historic=True)
def harness_configure(session: Session) -> None:
    """Look at the session before anything else happens. Historic: a plugin registered later still gets it."""


@hookspec
def harness_check_plan(plan: Plan) -> Sequence[Problem]:  # type: ignore[empty-body]
    """Return extra problems of a plan. Called when the plan is valid by itself; all are shown with the others."""


@hookspec(firstresult=True)
def harness_run_stage(stage: StageJob, context: Any) -> bool | None:
    """Execute a stage: train it from `stage.inputs` and leave the model in `context.output`.

    The first plugin that returns True has done it; None passes it on. The built-in one, tried last, runs the aligner in
    this process. A StageError fails the stage and skips those that build on it; the others go on.
    """


@hookspec
def harness_stage_start(stage: str, aligner: str) -> None:
    """A stage begins to train. Not called for one that is reused."""


@hookspec
def harness_stage_log(stage: str, step: int, values: Mapping[str, float], total: int | None) -> None:
    """A stage logged scalars at a step; `total` is the last step, where known."""


@hookspec
def harness_stage_finish(stage: str, status: str, seconds: float) -> None:
    """A stage ended: `status` is done, reused, failed or skipped; `seconds` is what its training took."""


@hookspec
def harness_run_finish(run: RunFolder, say: Callable[[str], None]) -> None:
    """The run folder is whole, also after a failure. The built-in report is written here. `say` tells the user a line."""


@hookspec(firstresult=True)
def harness_render_analysis(analysis: Mapping[str, Any]) -> str | None:
    """Render what `harness analyze -o` writes: one HTML page, from the document that its --json prints.

    The first plugin that returns a page has done it; None passes it on. Escape names and notes: they come from the files.
    """


@hookspec
def harness_report_sections(run: RunFolder) -> Sequence[tuple[str, str]]:  # type: ignore[empty-body]
    """Return extra sections of the report: a title, and HTML. Escape what comes from a model: it is untrusted."""
