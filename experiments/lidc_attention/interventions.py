"""Does the segmentation do what the attention says? The map is replaced, all else is kept.

    python experiments/lidc_attention/interventions.py --root DRRS [--checkpoint pretrained]

Prints, over the validation cases, what the same weights segment with their own map, with none
(features x 1), with one that is 1 everywhere, with their own mirrored (the other lung), and with
the true mask as the map; and the alphas by which the map acts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from attnseg.common.errors import UserError
from attnseg.data.datamodule import AttnSegDataModule
from attnseg.evaluation.engine import evaluate_batches
from attnseg.inference.predictor import trained_model
from attnseg.nn.dual_pathway import DualPathwayModel
from attnseg.runs.checkpoints import load_checkpoints

MAPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "its own": lambda own, truth: own,
    "none": lambda own, truth: torch.zeros_like(own),
    "1 everywhere": lambda own, truth: torch.ones_like(own),
    "its own, mirrored": lambda own, truth: own.flip(-1),
    "its own inside the truth": lambda own, truth: own * truth,
    "the truth": lambda own, truth: truth,
}
METRICS = ("dice_positive", "dice_global", "seg_gt_overlap", "froc_sensitivity_at_1")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_AS_WRITTEN)
    parser.add_argument("--root", required=True, help="the LIDC_LDRI folder of the DRRs")
    parser.add_argument("--checkpoint", default="pretrained", help="one model with attention")
    parser.add_argument("--split", choices=("all", "train", "val", "test"), default="val")
    parser.add_argument("--member", type=int, default=0, help="of an ensemble")
    options = parser.parse_args()
    members = load_checkpoints(options.checkpoint)
    if not 0 <= options.member < len(members):
        raise SystemExit(f"--member {options.member}: there are 0 to {len(members) - 1}")
    checkpoint = members[options.member]
    if checkpoint.config.data.name != "lidc_drr":
        raise SystemExit(f"{options.checkpoint}: was not trained on the DRRs that --root means")
    model = trained_model(checkpoint)
    if not isinstance(model, DualPathwayModel) or model.attention is None or model.fusion is None:
        raise SystemExit(f"{options.checkpoint}: has no attention to replace")
    there = checkpoint.config.data.model_copy(update={"root": options.root})
    data = AttnSegDataModule(checkpoint.config.model_copy(update={"data": there}))
    loader = data.eval_dataloader(options.split)
    alphas = ", ".join(f"{alpha:.2f}" for alpha in model.fusion.alpha.tolist())
    print(f"alpha, finest level first: {alphas}\n")
    print(f"| map | {' | '.join(METRICS)} |\n|{'---|' * (len(METRICS) + 1)}")
    truth: dict[str, Tensor] = {}

    def told(batches: Any) -> Iterator[Mapping[str, Any]]:
        for batch in batches:
            truth["mask"] = batch["mask"]
            yield batch

    for name, instead in MAPS.items():

        def replace(module: Any, given: Any, made: Any, instead: Any = instead) -> Any:
            logits, own = made
            return logits, instead(own, truth["mask"])

        hook = model.attention.register_forward_hook(replace)
        found = evaluate_batches(model, told(loader), threshold=checkpoint.threshold).summary
        hook.remove()
        print(f"| {name} | {' | '.join(f'{found[key]:.3f}' for key in METRICS)} |", flush=True)


_AS_WRITTEN = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
