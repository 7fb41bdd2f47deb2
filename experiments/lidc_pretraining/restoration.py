"""Self-supervised pre-training: the network restores what is hidden of unlabelled DRRs.

    python experiments/lidc_pretraining/restoration.py --output runs/restoration-0 --epochs 30 \\
        data.root=../shared/data/lidc_drr/LIDC_LDRI data.split.fold=0
    attnseg train experiment=lidc_attention warmstart=runs/restoration-0/last.ckpt ...

Half of the blocks of every training image are set to its mean, in both pathways; the mask logits
and the attention logits are each asked for the image, and judged by their mean absolute error where
it was hidden (context encoders: Pathak et al. 2016, doi 10.1109/CVPR.2016.278; blocks, share and
error of SimMIM: Xie et al. 2022, doi 10.1109/CVPR52688.2022.00943). No mask is read. The
checkpoint has all weights but the two last layers, which a warm start makes anew.
"""

from __future__ import annotations

import argparse
import math
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar
from torch import Tensor

from attnseg.common.errors import UserError
from attnseg.common.files import make_folder
from attnseg.common.seeding import derive_seed
from attnseg.config import TrainConfig
from attnseg.config.compose import compose_checked
from attnseg.data.datamodule import AttnSegDataModule
from attnseg.runs.checkpoints import save_checkpoint
from attnseg.runs.patients import TrainedPatients
from attnseg.training.module import AttnSegModule
from attnseg.training.record import MadeOf


def hidden_blocks(images: Tensor, block: int, share: float, generator: torch.Generator) -> Tensor:
    """Which pixels are hidden, `share` of the blocks of each image: (B, 1, H, W) -> bool."""
    n, _, height, width = images.shape
    rows, columns = height // block, width // block
    order = torch.rand(n, rows * columns, generator=generator).argsort(1)
    hidden = (order < round(share * rows * columns)).view(n, 1, rows, columns)
    return hidden.repeat_interleave(block, 2).repeat_interleave(block, 3).to(images.device)


class Restoration(pl.LightningModule):
    """The network of a run, restoring images.

    Args:
        config: the run that will start from these weights.
        block: side of a hidden block in pixels.
        share: of the blocks that are hidden.
        epochs: to train; the rate rises over the first and falls to 0 as a cosine.
    """

    def __init__(self, config: TrainConfig, block: int, share: float, epochs: int) -> None:
        super().__init__()
        self.run = AttnSegModule(config)
        self.block, self.share, self.epochs = block, share, epochs

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Mean absolute error of both outputs where the image was hidden."""
        seed = derive_seed("hidden", self.run.config.seed, self.current_epoch, batch_idx)
        image = batch["drr"]
        hidden = hidden_blocks(image, self.block, self.share, torch.Generator().manual_seed(seed))
        shown = image.masked_fill(hidden, 0.0)
        output = self.run(shown, shown)
        errors = [(output.mask_logits - image).abs()[hidden].mean()]
        if self.run.model.has_attention:
            errors.append((output.attention_logits - image).abs()[hidden].mean())
        loss = torch.stack(errors).mean()
        self.log("loss", loss, prog_bar=True, on_step=False, on_epoch=True, batch_size=len(image))
        return loss

    def configure_optimizers(self) -> Any:
        """AdamW at the run's rate, the same for all parts: nothing is pretrained yet."""
        optim = self.run.config.optim
        optimizer = torch.optim.AdamW(self.run.parameters(), optim.lr, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda epoch: 0.3 if epoch == 0 else (1 + math.cos(math.pi * epoch / self.epochs)) / 2,
        )
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_train_epoch_end(self) -> None:
        """Print the error: pre-training has no ledger."""
        loss = float(self.trainer.callback_metrics["loss"])
        print(f"epoch {self.current_epoch + 1}: error {loss:.4f} standard deviations", flush=True)


def main() -> None:
    """Pre-train, and write last.ckpt."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of last.ckpt")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--block", type=int, default=16, help="side of a hidden block, px")
    parser.add_argument("--share", type=float, default=0.5, help="of the blocks that are hidden")
    parser.add_argument("--experiment", default="lidc_attention")
    parser.add_argument("overrides", nargs="*", help="key=value of attnseg train")
    args = parser.parse_args()
    words = [f"experiment={args.experiment}", "data.synthetic.per_image=0", *args.overrides]
    config = compose_checked("train", words, TrainConfig)
    if config.data.size % args.block:
        raise SystemExit(f"--block {args.block}: data.size={config.data.size} is no multiple of it")
    make_folder(args.output, "--output")  # before the work
    if config.trainer.num_threads:
        torch.set_num_threads(config.trainer.num_threads)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    data = AttnSegDataModule(config)
    module = Restoration(config, args.block, args.share, args.epochs)
    trainer = pl.Trainer(
        accelerator=config.trainer.accelerator,
        devices=1,
        precision=config.trainer.precision,
        max_epochs=args.epochs,
        limit_val_batches=0,
        gradient_clip_val=config.optim.gradient_clip_norm,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=config.trainer.progress_bar,
        callbacks=[RichProgressBar(leave=False)] if config.trainer.progress_bar else [],
    )
    trainer.fit(module, datamodule=data)
    model: Any = module.run.model
    last = [model.head, *([model.attention.trunk.refine[-1]] if model.has_attention else [])]
    dropped = {id(tensor) for layer in last for tensor in layer.parameters()}
    state = module.run.state_dict(keep_vars=True).items()
    content: dict[str, Any] = {
        "state_dict": {name: value.detach() for name, value in state if id(value) not in dropped},
        "epoch": args.epochs - 1,
        "global_step": trainer.global_step,
    }
    trained = TrainedPatients.of(data.train_patients, keep_ids=config.keep_ids)
    module.run.made = MadeOf(data.record, trained)
    module.run.on_save_checkpoint(content)
    save_checkpoint(content, args.output / "last.ckpt")
    print(f"weights to start from: {args.output / 'last.ckpt'}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
