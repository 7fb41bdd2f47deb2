"""Data: sources, splits, patches, augmentation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from attnseg.config.base import Fraction, NonNegative, Positive, Section


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


class DataConfig(Section):
    """What every data source shares."""

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

    @model_validator(mode="after")
    def _patch_fits(self) -> DataConfig:
        if self.patch.size is not None and self.patch.size > self.size:
            raise ValueError(f"patch.size={self.patch.size} is larger than size={self.size}")
        return self


class PhantomDataConfig(DataConfig):
    """The embedded procedural chest: every case is a patient of its own, keyed by seed."""

    name: Literal["phantom"]
    size: Annotated[int, Field(ge=64, multiple_of=32)] = 256
    n_cases: Annotated[int, Field(ge=3)] = 120
    seed: Annotated[int, Field(ge=0)] = 0
    negative_fraction: Fraction = 0.15
    max_nodules: Positive = 3
    diameter_mm: tuple[float, float] = (8.0, 30.0)  # least and largest, log-uniform between
    contrast_hu: tuple[float, float] = (550.0, 950.0)  # above the lung around the nodule

    @model_validator(mode="after")
    def _ranges_rise(self) -> PhantomDataConfig:
        for name in ("diameter_mm", "contrast_hu"):
            low, high = getattr(self, name)
            if not 0.0 < low <= high:
                raise ValueError(f"{name}: expected 0 < least <= largest, got [{low:g}, {high:g}]")
        if self.diameter_mm[1] > 60.0:
            raise ValueError("diameter_mm: above 60 mm no nodule fits a phantom's lung")
        return self


class LidcDrrDataConfig(DataConfig):
    """`<root>/<range>/<case>_drr.png` with `<case>_drr_mask.png`; no X-ray of its own."""

    name: Literal["lidc_drr"]
    root: str | None = None
    xray: Literal["same", "simulated"] = "same"
    scans_csv: str | None = None  # null: looked for in root and beside it


class ManifestDataConfig(DataConfig):
    """A CSV with columns case, patient, xray, drr, mask and optionally spacing, split."""

    name: Literal["manifest"]
    root: str | None = None  # the CSV, or the folder that holds manifest.csv
    on_mismatch: Literal["resample", "refuse"] = "refuse"


class RadiographsDataConfig(DataConfig):
    """A public set of radiographs with marks in place of masks: the X-ray serves both pathways."""

    root: str | None = None


class JsrtDataConfig(RadiographsDataConfig):
    """JSRT: JPCLNnnn and JPCNNnnn as .IMG or PNG, and CLNDAT_EN.txt; lesions are discs."""

    name: Literal["jsrt"]
    table: str | None = None  # null: CLNDAT_EN.txt below root
    png_inverted: bool = False  # the .IMG files are (dense tissue dark); were the PNGs left so?


class Node21DataConfig(RadiographsDataConfig):
    """NODE21: metadata.csv with boxes beside images/."""

    name: Literal["node21"]
    mask: Literal["box", "ellipse"] = "box"


class ChestXDetDataConfig(RadiographsDataConfig):
    """ChestX-Det: ChestX_Det_train.json, ChestX_Det_test.json with polygons, and the PNGs."""

    name: Literal["chestx_det"]
    labels: Annotated[list[str], Field(min_length=1)] = ["Nodule", "Mass"]
    mask: Literal["polygon", "box", "ellipse"] = "polygon"


AnyData = Annotated[
    PhantomDataConfig
    | LidcDrrDataConfig
    | ManifestDataConfig
    | JsrtDataConfig
    | Node21DataConfig
    | ChestXDetDataConfig,
    Field(discriminator="name"),
]
