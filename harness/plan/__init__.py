"""The plan: text → values with lines (`document`) → typed and resolved (`check`)."""

from .check import check
from .document import Document, parse_document, read_document
from .evaluation import row_problem
from .gates import interval_text, matching
from .graph import BASE, ESTIMATES, Graph, JudgeNode, MetricNode, StageNode, held_out
from .model import Gate, Plan

__all__ = [
    "BASE",
    "ESTIMATES",
    "Document",
    "Gate",
    "Graph",
    "JudgeNode",
    "MetricNode",
    "Plan",
    "StageNode",
    "check",
    "held_out",
    "interval_text",
    "matching",
    "parse_document",
    "read_document",
    "row_problem",
]
