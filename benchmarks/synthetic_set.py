"""Data sets of any number of cases, for benchmarks: few distinct pictures, the rest hard links."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

DISTINCT = 20  # pictures that differ; ext4 allows 65,000 links to each


def write_pictures(folder: Path, size: int) -> list[tuple[Path, Path]]:
    """`DISTINCT` smooth, noisy pictures (8 bit) with the mask of one bright disc each; as PNG."""
    from attnseg.imaging.images import write_image

    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:size, 0:size] / size
    made = []
    for index in range(DISTINCT):
        smooth = (np.sin(3 * rows + index) + np.cos(5 * columns) + 2) * 45
        centre, radius = rng.uniform(0.25, 0.75, 2), rng.uniform(0.03, 0.09)
        disc = np.hypot(rows - centre[0], columns - centre[1]) < radius
        mask = disc & (index % 10 != 9)  # one in ten has no lesion
        picture = (smooth + 40 * mask + rng.normal(0, 6, (size, size))).clip(0, 255)
        paths = folder / f"picture{index:02d}.png", folder / f"mask{index:02d}.png"
        write_image(paths[0], picture.astype(np.uint8))
        write_image(paths[1], mask.astype(np.uint8) * np.uint8(255))
        made.append(paths)
    return made


def write_lidc_layout(root: Path, count: int, size: int) -> Path:
    """`count` DRRs with masks in the layout of data=lidc_drr, a thousand a folder; 0.7 mm."""
    pictures = write_pictures(root / "pictures", size)
    lines = ["drr_file,pixel_spacing_mm"]
    for index in range(count):
        folder = root / "set" / f"{index // 1000:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"LIDC-IDRI-{index % 10_000:04d}_{index // 10_000:02d}"
        for source, kind in zip(pictures[index % DISTINCT], ("drr", "drr_mask"), strict=True):
            os.link(source, folder / f"{name}_{kind}.png")
        lines.append(f"{name}_drr.png,0.7")
    (root / "set" / "scans.csv").write_text("\n".join(lines) + "\n")
    return root / "set"


def write_manifest(root: Path, count: int, size: int) -> Path:
    """`count` cases of as many patients for data=manifest: an X-ray, a DRR and a mask each."""
    pictures = write_pictures(root / "pictures", size)
    (root / "set").mkdir()
    lines = ["case,patient,xray,drr,mask,spacing"]
    for index in range(count):
        names = [f"{index:06d}_{role}.png" for role in ("xray", "drr", "mask")]
        picture, mask = pictures[index % DISTINCT]
        for source, name in zip((picture, picture, mask), names, strict=True):
            os.link(source, root / "set" / name)
        lines.append(f"case{index:06d},patient{index:06d},{','.join(names)},0.7")
    (root / "set" / "manifest.csv").write_text("\n".join(lines) + "\n")
    return root / "set"
