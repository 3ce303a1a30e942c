"""Which items are to blame for a step of a sequential model that comes to NaN."""

from typing import TYPE_CHECKING

import polars as pl
import torch
from torch import Tensor

from lexirec.data.messages import shown
from lexirec.models.sequence_batches import SequenceBatch

if TYPE_CHECKING:
    from lexirec.models.sequential import SequentialRecommender


def culprits(model: "SequentialRecommender", batch: SequenceBatch) -> str:
    """The items whose vectors or gradients are not finite, else those asked for where states are not, in words for the error of a bad loss.

    Args:
        model: as it stood at the step.
        batch: of the step.
    """
    network = model._network
    rows = batch.rows  # of inputs, targets and negatives
    if rows is None:  # every item takes part
        rows = torch.arange(model.n_items, device=model.device)
    with torch.no_grad():
        bad = rows[~torch.isfinite(network.items(rows)).all(1)]
        if len(bad):
            return f"{len(bad):,} items of the batch have vectors with NaN or infinity (item_id {shown(_names(model, bad))})"
        states = network.states(network.items(batch.rows), batch.inputs, batch.masked, batch.layout, batch.at, batch.rows)
    lost = ~torch.isfinite(states).all(1)
    bad = rows[:0] if lost.any() else _lost_gradients(network.items.own, rows)
    if len(bad):
        return f"vectors and states are finite, but the gradients of {len(bad):,} items are not (item_id {shown(_names(model, bad))})"
    targets = (batch.targets[lost] if lost.any() else batch.targets).unique()
    names = _names(model, targets if batch.rows is None else batch.rows[targets])
    if not lost.any():
        return f"all vectors and states are finite; {len(names):,} items are asked for (item_id {shown(names)})"
    return (
        f"all vectors of the batch's items are finite, but {int(lost.sum()):,} of {len(lost):,} states are not; these are asked for"
        f" {len(names):,} items (item_id {shown(names)})"
    )


def _lost_gradients(own: torch.nn.Embedding | None, rows: Tensor) -> Tensor:
    """Of these items those whose own vectors have a gradient that is NaN or infinite."""
    if own is None or own.weight.grad is None:
        return rows[:0]
    return rows[~torch.isfinite(own.weight.grad[rows]).all(1)]


def _names(model: "SequentialRecommender", rows: Tensor) -> pl.Series:
    return model.item_map.name(rows.cpu().numpy())


__all__ = ["culprits"]
