"""Writes docs/plan.md, the reference of the plan, from the models that check plans: python docs/plan_reference.py"""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from harness.components import ENGINE_ARGUMENTS, KINDS, AlignerConfig, GenerateOptions, LoraOptions, SourceConfig
from harness.plan.model import BestOfN, Bootstrap, Evaluate, Gate, Plan, Report, Suite, TinyBase
from harness.plugins import Entry, Registry, load_plugins
from harness.records import SuiteRow

OUTPUT = Path(__file__).with_name("plan.md")
DISTRIBUTION = "alignment-harness"
TYPES = {"string": "text", "integer": "integer", "number": "number", "boolean": "true or false", "null": "nothing"}
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
SECTIONS = {"Bootstrap": "bootstrap", "Evaluate": "evaluate", "GenerateOptions": "generate", "Report": "report"} | {
    "BestOfN": "best_of_n",
    "Gate": "gates",
    "LoraOptions": "lora",
    "Suite": "suites",
    "TinyBase": "a tiny base",
}
INTRODUCTION = """\
# The plan

<!-- Written by plan_reference.py from the models that check plans; change those, not this file. -->

A plan is one YAML file. Unknown keys, NaN and infinity are errors; all problems are reported at once, each with its line.
`harness check PLAN` validates one, `harness init` writes one to start from, and `harness schema` prints the JSON Schema,
with the options of every installed plugin, for your editor: after `harness schema > plan.schema.json`, one that has the YAML
language server (VS Code's YAML extension, Neovim, Helix) checks and completes a plan whose first line is
`# yaml-language-server: $schema=plan.schema.json`. `--set KEY=VALUE` sets any value by its dotted path, such as
`--set stages.dpo.beta=0.3`.
"""
DATA = """\
## data

Each entry names a `source`, its options, and how it is split. A stage or a suite refers to it by name: `hh` if it is not
split, `hh.train` if it is. Splits go by conversation root, so that prompts which share their first human turn stay
together. A `path` that can only be a file, and is not there, is a problem of the plan, and so is a `part` of local files,
which have none. A row of no use is dropped and counted by reason; where too many are, the first is told with its
line, what is wrong and what was expected. These options are understood by every source:
"""
FILES = """\
### Files of rows

All sources but `toy` read local files or a data set of the Hub. In a folder, all files are read as one set, so one that holds
`train` files beside `test`, `validation` or `eval` files is an error, as is one that `save_to_disk` wrote. Text is UTF-8; all but
Parquet may be gzipped (`.gz`).

| file | what it holds |
| --- | --- |
| `.jsonl` | one JSON object a line |
| `.json` | the same, or one JSON array of objects |
| `.csv` | a line of column names, then rows of text; an empty cell is a missing value |
| `.parquet` | columns, which may hold lists of chat messages |

Fields are found by their names; `columns: {prompt: question}` reads `prompt` from the column `question`. An `id` is text or an integer;
a row without one gets its number. The content of a message is text, or a list of parts `{"type": "text", "text": …}`, which are joined.
A row with `tools` or `chat_template_kwargs`, with which TRL fills in a chat template, is dropped as one that cannot be read as it is
meant; any other column is left alone.

### Prompts as text

Text in `prompt` becomes one user turn under the base's chat template, as `[{"role": "user", "content": …}]` does. A base without a
template gets this project's own: a line `<|user|>` or `<|assistant|>` before each turn. TRL applies no template to text (its standard
format): results differ there. Text of the form `Human: …`, a blank line, `Assistant: …` would be one turn too, and is refused:
`source: hh-rlhf` reads it as what it is, where both `chosen` and `rejected` are such dialogues.
"""
SUITE_ROWS = """\
The file at `path` holds JSON lines, one row each, such as `{"id": "1", "prompt": "Name three rivers.", "category": "lists"}`; unknown
fields are errors. A `.csv` file works too: with the columns `prompt`, `type` (the category), `label` (safe or unsafe) and mostly `id`,
as [XSTest](metrics.md#xstest-and-other-sets-of-prompts) has them.
"""
STAGES = """\
## stages

Each entry names an `aligner`, fills its slots with `base`, another stage or a data reference, and sets its options. Slots
have kinds: {kinds}. One of kind `prompts` also takes preferences and conversations; one of kind `scoring-judge` a
[judge](#judges) that scores, with its options in place, such as `reward: {{judge: toy-truth}}`. `requires` lists [gates](#gates) on the
reward models that a stage builds on: where one fails, the stage and its descendants are skipped, the others go on, and the
run ends with status 3. These options are understood by every aligner, with these defaults unless its own table has another:
"""
ARGUMENTS = """\
Of `args`, the engine reads {arguments}; any other is an error. Optimizers that need more than gradients (GaLore, APOLLO, LOMO, the
schedule-free ones) are TRL's alone. With `engine: trl` TRL gets them all.
"""
JUDGES = """\
## judges

Each entry of `evaluate.judges` names a `judge` and its options. An entry of `evaluate.harm` is a judge that scores on a scale of its
own how far an answer to an unsafe prompt complies; it compares no answers ([Metrics](metrics.md#unsafe-compliance)).
"""
METRICS = """\
## metrics

`evaluate.metrics` lists families, or single measures of them; each measure is one number of the report, under the name that
[gates](#gates) use. What each one measures, and what it does not: [Metrics](metrics.md).
"""
SWEEP = """\
## sweep

Maps options of stages to lists of values: `sweep: {dpo.beta: [0.05, 0.1]}` replaces the stage `dpo` by `dpo-beta-0.05` and
`dpo-beta-0.1`. Several keys are crossed; stages that build on a swept one, and lists of candidates, expand with it.
An option may lie within another: `dpo.lora.r` makes `dpo-lora.r-4`. What means one model, such as `baseline`, names one of the stages.

## seeds

`seeds: [1, 2, 3]` trains every stage once with each seed: `dpo` with the first, `dpo-seed-2` and `dpo-seed-3` with the others, each on
what its own seed trained. Candidates, gates and judges keep the plan's names: estimates are over all seeds, and judges use the
first seed's models. `seed` still draws the splits, the answers and the bootstrap. What the intervals then cover:
[Training seeds](statistics.md#training-seeds).
"""
GATES = """\
## gates

`require` lists requirements on the estimates of a run, and `requires` of a stage those on a reward model. A gate names one
estimate by model and metric and, where several would match, by judge, suite and baseline; exactly one of `value`, `low` and
`high`, the ends of its interval, is held against a bound such as `">= 0.65"`; shares are from 0 to 1. A run with a gate that
fails ends with status 3.
"""


def reference(registry: Registry) -> str:
    """The whole page, of the built-in components."""
    parts = [
        INTRODUCTION,
        *_model("## Top level", Plan),
        *_model("### a tiny base", TinyBase),
        DATA,
        _table(SourceConfig),
        FILES,
        *(text for entry in _entries(registry, "source") for text in _source(entry)),
        STAGES.format(kinds=", ".join(f"`{kind}`" for kind in KINDS)),
        _table(AlignerConfig),
        _wrapped(ARGUMENTS.format(arguments=", ".join(f"`{name}`" for name in ENGINE_ARGUMENTS))) + "\n",
        *_model("### lora", LoraOptions),
        *(text for entry in _entries(registry, "aligner") for text in _aligner(entry)),
        SWEEP,
        *_model("## evaluate", Evaluate),
        *_model("### best_of_n", BestOfN),
        *_model("### suites", Suite),
        SUITE_ROWS,
        _table(SuiteRow),
        *_model("### generate", GenerateOptions),
        *_model("### bootstrap", Bootstrap),
        JUDGES,
        *(text for entry in _entries(registry, "judge") for text in _judge(entry)),
        METRICS,
        *(text for entry in _entries(registry, "metric") for text in _metric(entry)),
        GATES,
        _table(Gate),
        *_model("## report", Report),
    ]
    return "\n".join(parts)


def _entries(registry: Registry, kind: str) -> Iterator[Any]:
    for name in registry.names(kind):
        entry = registry.get(kind, name)
        if entry is not None and entry.plugin.distribution == DISTRIBUTION:
            yield entry


def _model(heading: str, model: type[BaseModel]) -> Iterator[str]:
    yield f"{heading}\n\n{_paragraph(model)}\n"
    yield _table(model)


def _component(kind: str, entry: Entry, base: type[BaseModel] | None = None) -> Iterator[str]:
    yield f"### {kind}: {entry.name}\n\n{_paragraph(entry.component)}\n"
    config = entry.component.Config
    if base is not None:
        shared = _properties(base)
        own = {name: each for name, each in _properties(config).items() if each != shared.get(name)}
    else:
        own = _properties(config)
    own = {name: each for name, each in own.items() if name not in getattr(entry.component, "takes", {})}
    if own:
        if inspect.getdoc(config) != inspect.getdoc(base):
            yield f"{_paragraph(config)}\n"
        yield _rows(config, own)


def _source(entry: Any) -> Iterator[str]:
    heading, *rest = _component("source", entry, SourceConfig)
    yield f"{heading}\nGives {entry.component.gives}.\n"
    yield from rest


def _aligner(entry: Any) -> Iterator[str]:
    heading, *rest = _component("aligner", entry, AlignerConfig)
    yield f"{heading}\n{_slots(entry.component.takes)} Gives a {entry.component.gives}.\n"
    yield from rest


def _judge(entry: Any) -> Iterator[str]:
    heading, *rest = _component("judge", entry)
    yield f"{heading}\n{_slots(entry.component.takes)}\n" if entry.component.takes else heading
    yield from rest


def _slots(takes: Mapping[str, str]) -> str:
    slots = []
    for slot, text in takes.items():
        kinds = " or ".join(kind.strip() for kind in text.rstrip("?").split("|"))
        slots.append(f"`{slot}` ({kinds}{', may be left out' if text.endswith('?') else ''})")
    return f"Takes {', '.join(slots)}."


def _metric(entry: Any) -> Iterator[str]:
    yield from _component("metric", entry)
    lines = ["| measure | unit | better |", "| --- | --- | --- |"]
    lines += [f"| `{each.name}` | {each.unit} | {each.better or ''} |" for each in entry.component.measures]
    yield "\n".join(lines) + "\n"


def _table(model: type[BaseModel]) -> str:
    return _rows(model, _properties(model))


def _properties(model: type[BaseModel]) -> dict[str, Any]:
    return dict(model.model_json_schema().get("properties", {}))


def _rows(model: type[BaseModel], properties: Mapping[str, Any]) -> str:
    required = model.model_json_schema().get("required", [])
    lines = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for name, each in properties.items():
        default = "required" if name in required else _default(model, name, each)
        lines.append(f"| `{name}` | {_kind(each)} | {default} | {each.get('description', '')} |")
    return "\n".join(lines) + "\n"


def _default(model: type[BaseModel], name: str, schema: Mapping[str, Any]) -> str:
    value = schema.get("default", model.model_fields[name].get_default(call_default_factory=True))
    if value in (None, "", {}, [], ()) or isinstance(value, BaseModel | dict):
        return ""
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _kind(schema: Mapping[str, Any]) -> str:
    """The type of a property in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name not in SECTIONS:
            return "mapping"  # of a plugin's own; its description says of what
        return f"[{SECTIONS[name]}](#{SECTIONS[name].replace(' ', '-')})"
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(_kind(each) for each in schema[union] if each.get("type") != "null")
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if schema.get("type") == "object":
        inner = schema.get("additionalProperties") or next(iter(schema.get("patternProperties", {}).values()), None)
        return f"mapping of names to {_kind(inner)}" if isinstance(inner, Mapping) and inner else "mapping"
    bounds = ", ".join(f"{sign} {schema[key]:,}" for key, sign in BOUNDS.items() if key in schema)
    return " ".join(part for part in (TYPES.get(schema.get("type", ""), "value"), bounds) if part)


def _paragraph(thing: type) -> str:
    """A class's docstring as Markdown paragraphs."""
    return _wrapped(" ".join((inspect.getdoc(thing) or "").split()))


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    OUTPUT.write_text(reference(load_plugins().registry()), encoding="utf-8")
