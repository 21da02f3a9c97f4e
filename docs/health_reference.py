"""Writes docs/health.md: what health verdicts are, and every built-in rule with its bound, source and advice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.health import Rule
from harness.plugins import load_plugins

PAGE = Path(__file__).with_name("health.md")
PLUGIN = "harness_plugins.health"
INTRODUCTION = """\
# Health

<!-- Written by docs/health_reference.py; `tox -e docs` writes it again. -->

While a stage trains, rules look at what it logs; once its model is evaluated, they look at the estimates. What they find is a
*verdict*: the rule, the value that was seen, the bound that a healthy stage keeps, and what to do. Verdicts are printed when
they appear, each once; they are events in `events.jsonl`, and a section of the report.

**These are an audit, not an early-warning guarantee.** A rule knows the few signs that it was written for. Silence means that
none of them showed, not that all is well: a reward model may be wrong in ways that its training accuracy does not show, and a
policy may be hacked long before an average moves. And a verdict may be a false alarm; that is why it only warns unless you
ask for more. How often healthy runs are warned of is counted with the command [below](#false-alarms).

## What a verdict does

`health: warn`, the default, tells you and goes on. `health: stop`, at the top of a plan, ends a stage at the first warning
while it trains: the stage fails with one line, what builds on it is skipped, the run ends with status 1, and the last
checkpoint stays. The same command with `--set health=warn` goes on from there:

```console
$ harness run plan.yaml --set health=stop
$ harness run plan.yaml --set health=warn
```

- `health` is no part of a stage's key: switching it trains nothing again. With `stop`, a stage that is already in the store is
  held to the same rules: its log is replayed, and a warning fails it.
- A verdict from the evaluation comes when the stage is over, so it warns in either case. To fail a run on an estimate, write a
  gate: [`require`](plan.md#gates), or `requires: [{model: reward, metric: accuracy, value: ">= 0.7"}]` of a stage, which keeps
  PPO from starting on a weak reward model.
- A *note* is nothing to worry about, and stops nothing.

## When a rule judges

- Not before it has enough: a number of *logged values* of each scalar that it reads, or a number of prompts behind each
  estimate. One value in ten steps (`logging_steps`) is logged, so a short stage may be too short for some rules; the report
  says which rules could not judge. So are rules whose scalar an aligner does not log.
- Some only once a share of the training is over: a reward model's first accuracy is a coin's.
- Noisy values are judged by an interval: Student's 95 % interval of the mean of the last ten logged values, or, for a trend,
  of the mean of the last third minus that of the first. Logged values are not quite independent, and are looked at again and
  again, so this is a guard against noise and no significance test. Estimates bring their own [intervals](statistics.md).
- A rule gives one verdict on a stage and is done. Where training and evaluation both can show a thing, the first to show it
  counts.

Thresholds were fixed from the sources below before they met the runs on which false alarms are counted. They suit answers of
ten to a few hundred tokens and rewards of order one; in other worlds take them as a reason to look.

## The rules
"""
FALSE_ALARMS = """\
## False alarms

```console
$ python -m harness_benchmarks.health --seeds 11-20
```

runs the quickstart, which is healthy, once per seed, none of which was used to set a threshold, and prints each warning with
its seed and rule, how many runs had one, and Wilson's interval for that rate. Seeds 11 to 20 (on one thread each, `--set threads=1`)
and, later, 41 to 50: no warning in 20 runs, 0 % [0, 16].

## Rules of your own

A plugin returns rules from the hook `harness_health_rules`, for its own aligner or for anybody's: see
[Writing a plugin](plugins.md#health-rules). A subclass of an aligner is watched by that aligner's rules, too.
`--no-plugin health` leaves the built-in rules out.
"""
TITLES = {"reward": "reward model", "dpo": "DPO", "ppo": "PPO"}


def reference(rules: Sequence[Rule]) -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for aligner in dict.fromkeys(rule.aligner for rule in rules):
        parts.append(f"### {TITLES.get(aligner, aligner)}\n")
        parts += ["| rule | judges | a healthy stage keeps | what to do | source |", "| --- | --- | --- | --- | --- |"]
        parts += [_row(rule) for rule in rules if rule.aligner == aligner]
        parts.append("")
    return "\n".join([*parts, FALSE_ALARMS])


def _row(rule: Rule) -> str:
    name = f"`{rule.name}`" + (" (note)" if rule.level == "note" else "")
    return f"| {name} | {'; '.join(_evidence(rule))} | {rule.threshold} | {rule.advice} | {rule.source} |"


def _evidence(rule: Rule) -> Iterator[str]:
    if rule.scalars:
        values = f"{rule.needs} logged value{'s' if rule.needs > 1 else ''} of " + ", ".join(f"`{n}`" for n in rule.scalars)
        when = {0.0: "", 1.0: ", at the end"}.get(rule.after, f", from {rule.after:.0%} of training on")
        yield values + when
    if rule.metrics:
        yield ", ".join(f"`{name}`" for name in rule.metrics) + f" of at least {rule.prompts} prompts"


def built_in() -> list[Rule]:
    """The rules of the plugin `health`."""
    (rules,) = (
        each.function()
        for each in load_plugins().hook.harness_health_rules.get_hookimpls()
        if getattr(each.plugin, "__name__", "") == PLUGIN
    )
    return list(rules)


if __name__ == "__main__":
    PAGE.write_text(reference(built_in()), encoding="utf-8")
