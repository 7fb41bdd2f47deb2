"""The original's figure: a soft Dice that depends on the order of the cases, kept to compare."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from attnseg.component import Measure
from attnseg.metrics.base import CaseMetric, check_maps, wide
from attnseg.metrics.values import Prepared

EPSILON = 1e-7

_ID_BYTES = 256  # of a case id that decide its place; a file name is never longer


class OriginalDice(CaseMetric):
    """`dice_original`: soft Dice over batches of two in sorted order of the case ids, averaged.

    (2 sum(p y) + 1e-7) / (sum p + sum y + 1e-7), the sums over both images of a batch; an odd
    last case is a batch of its own. A batch of two empty masks scores about 0 unless nothing at
    all is predicted, and large masks outweigh small ones, which is why it is no headline metric.

    What is kept is three numbers and the id of each case, so the order in which cases arrive,
    and the process on which they do, do not matter.

    Example:
        >>> mask = torch.zeros(1, 1, 8, 8)
        >>> mask[..., 2:4, 2:4] = 1.0
        >>> metric = OriginalDice()
        >>> metric.update(mask, mask, ["case"])
        >>> metric.compute()
        {'dice_original': 1.0}
    """

    name = "original"
    measures = {
        "dice_original": Measure(
            "the original's figure: soft Dice of batches of two in order of case id", True
        )
    }
    ids: list[Tensor]
    sums: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_rows("ids", _ID_BYTES, torch.uint8)
        self.add_rows("sums", 3, torch.float64)

    def update(
        self,
        probability: Tensor,
        mask: Tensor,
        case_ids: Sequence[str],
        prepared: Prepared | None = None,
    ) -> None:
        """Add a batch: `probability` and `mask` (B, 1, H, W), and B ids that sort the cases."""
        check_maps(probability, mask)
        assert len(case_ids) == len(mask), f"{len(case_ids)} ids for {len(mask)} cases"
        prepared = prepared or Prepared(probability, mask)
        maps, truth = prepared.probability.values, prepared.truth
        sums = [truth.sum(maps), wide(maps).sum((-2, -1)), wide(truth.area)]
        self.append_rows("sums", torch.stack(sums, 1))
        names = torch.stack([_as_bytes(case_id) for case_id in case_ids]).to(mask.device)
        self.append_rows("ids", names)

    def compute(self) -> dict[str, float]:
        """`dice_original`, NaN without cases."""
        keys = [bytes(row) for row in self.rows("ids").cpu().tolist()]
        order = sorted(range(len(keys)), key=keys.__getitem__)
        return {"dice_original": soft_dice_by_twos(self.rows("sums").cpu()[order])}


def soft_dice_by_twos(sums: Tensor) -> float:
    """The mean over consecutive pairs of rows (sum p y, sum p, sum y): (n, 3) -> scalar.

    Example:
        >>> round(soft_dice_by_twos(torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])), 4)
        0.5
    """
    batches = [batch.sum(0).tolist() for batch in torch.split(sums, 2) if len(batch)]
    scores = [(2 * py + EPSILON) / (p + y + EPSILON) for py, p, y in batches]
    return sum(scores) / len(scores) if scores else float("nan")


def _as_bytes(case_id: str) -> Tensor:
    """UTF-8, cut or padded with zeros: sorts as the string does (code point order)."""
    return torch.tensor(
        list(case_id.encode()[:_ID_BYTES].ljust(_ID_BYTES, b"\0")), dtype=torch.uint8
    )
