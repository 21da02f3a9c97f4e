"""`harness analyze`: the statistics of a run for judgements that came from elsewhere."""

from __future__ import annotations

import io
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from ..errors import UsageError

if TYPE_CHECKING:
    from ..evaluation.analysis import Analysis
    from ..evaluation.annotations import Judged
    from ..records import Estimate

SHOWN_PAIRS = 30
"""More differences than these are a wall; then only neighbours in the order of win rate are shown."""


@click.command("analyze", short_help="Win rates, differences and a ranking from judgements of elsewhere.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, and nothing else.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write an HTML report here, too.")
@click.option(
    "--difficulty",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="Difficulty of each prompt, for the length control.",
)
@click.option(
    "--anchor",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="AlpacaEval's df_gamed.csv, for its exact length control.",
)
@click.option(
    "--level", type=click.FloatRange(0, 1, True, True), default=0.95, show_default=True, help="Level of the intervals."
)
@click.option(
    "--resamples", type=click.IntRange(100), default=10_000, show_default=True, help="Bootstrap resamples, at most."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the bootstrap.")
@click.pass_obj
def command(
    session: Any,
    files: Sequence[str],
    as_json: bool,
    output: Path | None,
    difficulty: Path | None,
    anchor: Path | None,
    level: float,
    resamples: int,
    seed: int,
) -> None:
    """Analyse judgements of one or many models; "-" reads standard input.

    Each FILE holds judgement lines, as a run writes them, or the annotations of AlpacaEval. Prints every model's win rate,
    also at equal lengths, with standard errors and intervals, the differences between models that share a baseline, with
    Holm-adjusted p-values, and a Bradley-Terry ranking where there are more than two models.
    """
    from ..evaluation.analysis import analyse
    from ..evaluation.difficulty import read_anchor, read_difficulties

    difficulties = read_difficulties(difficulty) if difficulty else None
    fixed = read_anchor(anchor) if anchor else None
    rows = [row for name in files for row in _read(name)]
    analysis = analyse(rows, difficulties, fixed, level=level, resamples=resamples, seed=seed)
    if output:
        _write(session, analysis, output)
    if as_json:
        click.echo(json.dumps(analysis.document(), ensure_ascii=False, allow_nan=False))
    else:
        click.echo("\n".join(_lines(analysis)))
        if output:
            click.echo(f"report: {output}")


def _read(file: str) -> list[Judged]:
    from ..evaluation.annotations import read_judged

    if file == "-":
        return read_judged("standard input", io.BufferedReader(cast(io.RawIOBase, sys.stdin.buffer)))
    try:
        with Path(file).open("rb") as opened:
            return read_judged(file, opened)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}; give a file of judgements, or - for standard input") from None


def _write(session: Any, analysis: Analysis, output: Path) -> None:
    from ..records import write_text

    html = session.plugins.hook.harness_render_analysis(analysis=analysis.document())
    if html is None:
        raise UsageError(f"{output}: no plugin renders it; the built-in one, report, is switched off")
    try:
        write_text(output, html)
    except OSError as error:
        raise UsageError(f"{output}: {error.strerror}; give a file that can be written") from None


def _lines(analysis: Analysis) -> Iterator[str]:
    by = {(each.judge, each.suite, each.model, each.baseline, each.metric): each for each in analysis.estimates}
    for judge, suite in dict.fromkeys((each.judge, each.suite) for each in analysis.counts):
        counts = [each for each in analysis.counts if (each.judge, each.suite) == (judge, suite)]
        yield f"{sum(each.judgements for each in counts):,} judgements by {judge} on {suite}; values in percent"
        header = ["model", "baseline", "win rate", "interval", "std. error", "wins", "ties", "losses", "nulls"]
        header += ["equal lengths", "interval", "std. error", "gap"]
        table, order = [], {}
        for each in counts:
            key = (judge, suite, each.model, each.baseline)
            raw, controlled, gap = (
                by.get((*key, metric)) for metric in ("win-rate", "length-controlled-win-rate", "length-control-gap")
            )
            order[each.model] = raw.value if raw else 0.0
            row = [each.model, each.baseline, *_cells(raw), *map(str, (each.wins, each.ties, each.losses, each.nulls))]
            table.append((order[each.model], [*row, *_cells(controlled), f"{100 * gap.value:+.2f}" if gap else "–"]))
        yield from _table(header, [row for _, row in sorted(table, key=lambda pair: -pair[0])], names=2)
        yield from _differences([each for each in analysis.estimates if (each.judge, each.suite) == (judge, suite)], order)
        for ranking in analysis.rankings:
            if (ranking["judge"], ranking["suite"]) == (judge, suite):
                yield from _ranking(ranking)
        yield ""
    for note in analysis.notes:
        yield f"note: {note}"


def _differences(estimates: Sequence[Estimate], order: dict[str, float]) -> Iterator[str]:
    found = [each for each in estimates if each.metric == "win-rate-difference"]
    if not found:
        return
    yield ""
    if len(found) > SHOWN_PAIRS:
        names = sorted(order, key=lambda name: -order[name])
        near = {frozenset(pair) for pair in itertools.pairwise(names)}
        yield f"differences of neighbours in win rate; --json has all {len(found)}; p adjusted by Holm over all"
        found = [each for each in found if {each.model, each.baseline} in near]
    else:
        yield "differences on common prompts; p adjusted by Holm"
    header = ["model", "less", "difference", "interval", "std. error", "prompts", "p", "adjusted p"]
    rows = [
        [each.model, str(each.baseline), *_cells(each, sign="+"), str(each.n), _p(each.p_value), _p(each.p_adjusted)]
        for each in found
    ]
    yield from _table(header, rows, names=2)


def _ranking(ranking: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield (
        f"Bradley-Terry ranking, strengths in logits from the mean, {ranking['resamples']:,} resamples of "
        f"{ranking['clusters']:,} prompts; models that share a letter cannot be told apart"
    )
    rows = []
    for each in ranking["standings"]:
        ends = ["unbounded" if end is None else f"{end:+.2f}" for end in (each["low"], each["high"])]
        ranks = f"{each['rank_low']}–{each['rank_high']}" if each["rank_low"] < each["rank_high"] else str(each["rank_low"])
        rows.append(
            [
                each["model"],
                str(each["rank"]),
                ranks,
                f"{each['strength']:+.2f}",
                f"[{', '.join(ends)}]",
                " ".join(each["groups"]),
            ]
        )
    yield from _table(["model", "rank", "ranks left open", "strength", "interval", "group"], rows, names=1)


def _cells(estimate: Estimate | None, sign: str = "") -> list[str]:
    """Value, interval and standard error in percent."""
    if estimate is None:
        return ["–", "–", "–"]
    ends = ", ".join(f"{100 * end:.2f}" for end in (estimate.low, estimate.high))
    error = "–" if estimate.standard_error is None else f"{100 * estimate.standard_error:.2f}"
    return [f"{100 * estimate.value:{sign}.2f}", f"[{ends}]", error]


def _p(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}" if value >= 1e-4 else f"{value:.0e}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], names: int) -> Iterator[str]:
    """Columns side by side: the first `names` flush left, numbers flush right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    for row in (header, *rows):
        cells = [
            cell.ljust(width) if column < names else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
