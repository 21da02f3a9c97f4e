"""Rows of different lengths into rectangular batches that follow from the lengths alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def length_batches(lengths: Sequence[int], max_rows: int | None, max_tokens: int) -> list[list[int]]:
    """Row numbers sorted by length and cut into batches of at most `max_tokens` padded tokens, and `max_rows` rows.

    A batch is as wide as its longest row; a row longer than `max_tokens` is a batch of its own. Longest first: what does
    not fit into memory shows at once.
    """
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        batch = batches[-1] if batches else []
        full = max_rows is not None and len(batch) >= max_rows
        if batch and not full and (len(batch) + 1) * lengths[batch[0]] <= max_tokens:
            batch.append(row)
        else:
            batches.append([row])
    return batches


def cheapest_batches(lengths: Sequence[int], max_rows: int, max_tokens: int, overhead: int) -> list[list[int]]:
    """Row numbers sorted by length and cut where it costs least: a batch costs its padded tokens, and `overhead` tokens more.

    At most `max_rows` rows and `max_tokens` padded tokens a batch; a row longer than that is a batch of its own. Longest first.
    """
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    costs, starts = [0], [0]
    for end in range(1, len(order) + 1):
        options = [
            (costs[start] + padded + overhead, start)
            for start in range(max(0, end - max_rows), end)
            if (padded := (end - start) * lengths[order[start]]) <= max_tokens or start == end - 1
        ]
        cost, start = min(options)
        costs.append(cost)
        starts.append(start)
    batches: list[list[int]] = []
    end = len(order)
    while end:
        batches.append(order[starts[end] : end])
        end = starts[end]
    return batches[::-1]


def pad(rows: Sequence[Sequence[int]], pad_id: int, side: str = "right") -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (B, T) and their 0/1 mask (B, T), both int64, padded on one side to the longest row."""
    width = max(map(len, rows))
    ids, mask = [], []
    for row in rows:
        gap = width - len(row)
        before, after = (gap, 0) if side == "left" else (0, gap)
        ids.append([*[pad_id] * before, *row, *[pad_id] * after])
        mask.append([*[0] * before, *[1] * len(row), *[0] * after])
    return torch.tensor(ids), torch.tensor(mask)
