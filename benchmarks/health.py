"""False alarms: how often the health rules warn of the quickstart, which is healthy, over seeds.

    python -m harness_benchmarks.health --seeds 11-20

The quickstart was made with seeds 1 to 3, so count on others.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.errors import HarnessError
from harness.records import HealthVerdict
from harness.rundir import RunFolder
from harness.stats import wilson


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the plan once per seed, and print what was warned of. Returns 0, or 1 if a run failed."""
    parser = argparse.ArgumentParser(
        prog="python -m harness_benchmarks.health", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--seeds", type=seeds, default=seeds("11-20"), help="such as 11-20 or 3,5,8 (default: 11-20)")
    parser.add_argument("--plan", default="quickstart", help="a plan that is healthy (default: quickstart)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/health"), help="run folders go below it (default: %(default)s)"
    )
    parser.add_argument("--store", type=Path, default=Path("runs/.store"), help="(default: %(default)s)")
    parser.add_argument(
        "--set", action="append", default=[], dest="settings", metavar="KEY=VALUE", help="as for harness run"
    )
    options = parser.parse_args(arguments)
    found: dict[int, list[HealthVerdict]] = {}
    for seed in options.seeds:
        out = options.out / str(seed)
        command = ["run", options.plan, "--out", str(out), "--store", str(options.store), "--set", f"seed={seed}"]
        settings = [each for setting in options.settings for each in ("--set", setting)]
        status = subprocess.run(
            [sys.executable, "-m", "harness", *command, *settings], stdout=subprocess.DEVNULL, check=False
        ).returncode
        # A gate that is not met (3) says nothing against the run's health; a run that did not come to its end does.
        if status not in (0, 3):
            print(f"seed {seed}: the run ended with status {status}", file=sys.stderr)  # noqa: T201
            return 1
        found[seed] = RunFolder(out).health()
    print("\n".join(table(found)))  # noqa: T201
    return 0


def seeds(text: str) -> list[int]:
    """`11-13,20` as 11, 12, 13, 20. Raises ValueError."""
    ranges = (part.partition("-") for part in text.split(","))
    return [seed for first, _, last in ranges for seed in range(int(first), int(last or first) + 1)]


def table(found: Mapping[int, Sequence[HealthVerdict]]) -> Iterator[str]:
    """Every verdict by seed, warnings by rule, and the share of runs with a warning."""
    yield "| seed | stage | rule | level | step | what was seen |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for seed, verdicts in found.items():
        for each in verdicts:
            step = "evaluation" if each.step is None else each.step
            yield f"| {seed} | {each.stage} | {each.rule} | {each.level} | {step} | {each.text} |"
        if not verdicts:
            yield f"| {seed} | | | none | | |"
    warned = {seed: [each for each in verdicts if each.level == "warning"] for seed, verdicts in found.items()}
    rules = Counter(f"{stage} {rule}" for each in warned.values() for stage, rule in {(v.stage, v.rule) for v in each})
    yield ""
    for rule, count in rules.most_common():
        yield f"{rule}: {count} of {len(found)} runs"
    alarms = sum(bool(each) for each in warned.values())
    low, high = wilson(alarms, len(found))
    yield f"runs with a warning: {alarms} of {len(found)}, 95 % interval {low:.0%} to {high:.0%} (Wilson)"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HarnessError as error:
        sys.exit(str(error))
