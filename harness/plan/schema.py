"""The JSON Schema of a plan, with what the installed plugins add to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from ..judges import ScoringJudge
from ..plugins import Registry, describe
from .graph import SCORING_JUDGE, Slot
from .model import Gate, Plan


def plan_schema(registry: Registry) -> dict[str, Any]:
    """The schema that an editor checks and completes plans with (JSON Schema 2020-12)."""
    schema = Plan.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    evaluate = schema["$defs"]["Evaluate"]["properties"]
    for section, kind in (
        (schema["properties"]["data"], "source"),
        (schema["properties"]["stages"], "aligner"),
        (evaluate["judges"], "judge"),
        (evaluate["harm"], "judge"),
    ):
        # In place of pydantic's `patternProperties`, which take an entry whatever it holds.
        (pattern,) = section.pop("patternProperties")
        section["propertyNames"] = {"pattern": pattern}
        components = [registry.component(kind, name) for name in registry.names(kind)]
        section["additionalProperties"] = _one_of(components, kind, registry, schema)
    metrics = registry.names("metric")
    measures = [measure.name for name in metrics for measure in registry.component("metric", name).measures]
    evaluate["metrics"]["items"] = {"enum": sorted({*metrics, *measures})}
    return cast(dict[str, Any], _pointing(schema))


def _one_of(components: Sequence[Any], kind: str, registry: Registry, schema: dict[str, Any]) -> dict[str, Any]:
    """A mapping with the options of the component that its key `kind` names; of no other, so that an error is that option's."""
    return {
        "type": "object",
        "properties": {kind: {"enum": [each.name for each in components]}},
        "required": [kind],
        "allOf": [
            {
                "if": {"properties": {kind: {"const": each.name}}, "required": [kind]},
                "then": _component(each, kind, registry, schema),
            }
            for each in components
        ],
    }


def _pointing(value: Any) -> Any:
    """The same schema with "a mapping, or else" for `anyOf`, of which a validator says no more than that nothing of it fits."""
    if isinstance(value, list):
        return [_pointing(each) for each in value]
    if not isinstance(value, dict):
        return value
    value = {key: _pointing(each) for key, each in value.items()}
    branches = value.get("anyOf") or value.get("oneOf")
    if isinstance(branches, list):
        mappings = [each for each in branches if "$ref" in each or each.get("type") == "object"]
        others = [each for each in branches if each not in mappings]
        if len(mappings) == 1 and others:
            del value["anyOf" if "anyOf" in value else "oneOf"]
            otherwise = others[0] if len(others) == 1 else {"anyOf": others}
            value |= {"if": {"type": "object"}, "then": mappings[0], "else": otherwise}
    return value


def _component(component: Any, kind: str, registry: Registry, schema: dict[str, Any]) -> dict[str, Any]:
    config = component.Config.model_json_schema(ref_template="#/$defs/{model}")
    schema["$defs"].update(config.pop("$defs", {}))
    takes = getattr(component, "takes", {})
    slots = {slot: _slot(text, registry, schema) for slot, text in takes.items()}
    required = [kind, *(slot for slot, text in takes.items() if not text.endswith("?")), *config.get("required", [])]
    extra = {"requires": {"type": "array", "items": Gate.model_json_schema()}} if kind == "aligner" else {}
    return {
        "title": component.name,
        "description": describe(component),
        "type": "object",
        "properties": {kind: {"const": component.name}, **slots, **extra, **config.get("properties", {})},
        "required": list(dict.fromkeys(required)),
        "additionalProperties": False,
    }


def _slot(text: str, registry: Registry, schema: dict[str, Any]) -> dict[str, Any]:
    """What may stand in a slot: a name and, where a judge may fill it, a judge with its options."""
    slot = {"type": "string", "description": f"a {text.rstrip('?')}"}
    if SCORING_JUDGE not in Slot.parse(text).kinds:
        return slot
    judges = (registry.component("judge", name) for name in registry.names("judge"))
    scoring = [judge for judge in judges if issubclass(judge, ScoringJudge)]
    return {"anyOf": [slot, _one_of(scoring, "judge", registry, schema)]}
