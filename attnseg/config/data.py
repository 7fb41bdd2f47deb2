"""Data: sources, splits, patches, augmentation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, model_validator

from attnseg.config.base import Fraction, NonNegative, Positive, Section
from attnseg.config.component import Component, beside, signature_of, slot


class SplitConfig(Section):
    """How patients (never files) are divided into train, val and test."""

    kind: Literal["random", "kfold", "fixed"] = "random"
    seed: int = 0
    val_fraction: Fraction = 0.2
    test_fraction: Fraction = 0.0
    train_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0  # of what is left for training
    folds: Annotated[int, Field(ge=2)] = 5
    fold: Annotated[int, Field(ge=0)] = 0
    file: str | None = None  # fixed: a CSV with columns patient, split

    @model_validator(mode="after")
    def _consistent(self) -> SplitConfig:
        if self.kind == "random" and self.val_fraction + self.test_fraction >= 1.0:
            raise ValueError("val_fraction + test_fraction leave no patient for training")
        if self.kind == "kfold" and self.fold >= self.folds:
            raise ValueError(
                f"fold={self.fold} does not exist: folds count from 0 to {self.folds - 1}"
            )
        return self


class PatchConfig(Section):
    """What one training sample is: a patch of `size` px, or the whole image where size is null."""

    size: Annotated[int, Field(ge=32, multiple_of=32)] | None = None
    foreground: Fraction = 0.5  # share of patches of a positive case centred near its mask
    per_case: Positive = 1  # samples a case gives an epoch


Transforms = list[Annotated[SerializeAsAny[Component], slot("transform")]]


class AugmentConfig(Section):
    """Training-time augmentation; geometry is shared by X-ray, DRR and mask, intensity is not."""

    enabled: bool = True
    on_device: bool = False  # a batch at a time, where the model is, and not by the loader
    probability: Fraction = 0.5  # of each transform below
    flip: Fraction = 0.5  # left-right
    rotate_deg: NonNegative = 10.0
    scale: NonNegative = 0.15
    translate: Fraction = 0.05
    gamma: NonNegative = 0.3
    contrast: NonNegative = 0.2
    noise: NonNegative = 0.05  # standard deviations of the image
    blur_px: NonNegative = 1.0
    transforms: Transforms = []  # anybody's, after these: [{_target_: mylab.Noise, sigma: 0.1}]

    @model_validator(mode="after")
    def _transforms_are_the_loader_s(self) -> AugmentConfig:
        if self.transforms and self.on_device:
            raise ValueError(
                "on_device=true: transforms are called by the loader, a sample at a time, and "
                "would come before what the device does; set on_device=false"
            )
        return self


class SyntheticConfig(Section):
    """Nodules of known outline that training adds to its images; see attnseg.data.synthetic."""

    per_image: NonNegative = 0.0  # mean number (Poisson); 0: none
    diameter_px: tuple[float, float] = (6.0, 36.0)  # at 512 x 512; log-uniform between
    contrast: NonNegative = 0.013  # peak, in standard deviations of the image, a px of diameter
    contrast_spread: NonNegative = 0.5  # standard deviation of its logarithm
    easier: Annotated[float, Field(ge=1.0)] = 5.0  # times the contrast, in the first epoch
    easier_epochs: Annotated[int, Field(ge=0)] = 30  # falls to 1 over so many
    bright_contrast: Fraction = 1.0  # times the contrast, at a standard deviation above the mean
    # Uniform between two values each:
    axis_ratio: tuple[float, float] = (0.7, 1.0)
    margin_px: tuple[float, float] = (0.0, 0.0)  # at 512: so much of the outline is not seen
    power: tuple[float, float] = (0.5, 0.5)  # of the profile: 0.5 a solid sphere's, 1 rounder
    blur_px: tuple[float, float] | None = None  # at 512; null: 0.6 px at the model's own size

    @model_validator(mode="after")
    def _ranges_rise(self) -> SyntheticConfig:
        low, high = self.diameter_px
        if not 0.0 < low <= high <= 200.0:
            raise ValueError(
                f"diameter_px: expected 0 < least <= largest <= 200, got [{low:g}, {high:g}]"
            )
        for name, bottom, top in (
            ("axis_ratio", 0.1, 1.0),
            ("margin_px", 0.0, 20.0),
            ("power", 0.1, 20.0),
            ("blur_px", 0.0, 20.0),
        ):
            low, high = getattr(self, name) or (bottom, top)
            if not bottom <= low <= high <= top:
                raise ValueError(
                    f"{name}: expected {bottom:g} <= least <= largest <= {top:g}, "
                    f"got [{low:g}, {high:g}]"
                )
        return self


@beside("data")
class DataConfig(Component):
    """What every source shares, beside its own options.

    `data.name=phantom` or `data._target_=mylab.Mine` chooses the source.
    """

    size: Annotated[int, Field(ge=32, multiple_of=32)] = 512  # square, padded, never stretched
    batch_size: Positive = 4
    eval_batch_size: Positive = 2
    num_workers: Annotated[int, Field(ge=0)] = 0
    cache_dir: str | None = None  # null: $ATTNSEG_CACHE, else ~/.cache/attnseg
    oversample_positive: Annotated[float, Field(ge=1.0)] = 1.0
    split: SplitConfig = SplitConfig()
    patch: PatchConfig = PatchConfig()
    augment: AugmentConfig = AugmentConfig()
    synthetic: SyntheticConfig = SyntheticConfig()

    @model_validator(mode="before")
    @classmethod
    def _size_of_source(cls, given: dict[str, Any]) -> dict[str, Any]:
        told = signature_of(cls).constants.get("default_size")
        return given if told is None else {"size": told, **given}

    @model_validator(mode="after")
    def _sizes_fit(self) -> DataConfig:
        if self.patch.size is not None and self.patch.size > self.size:
            raise ValueError(f"patch.size={self.patch.size} is larger than size={self.size}")
        least = self.signature.constants.get("least_size", 32)
        if self.size < least:
            raise ValueError(f"size={self.size}: with data={self.name} it is {least} at least")
        return self


AnyData = Annotated[SerializeAsAny[DataConfig], slot("data")]
