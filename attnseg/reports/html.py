"""What every page shares: templates filled with everything escaped, pictures inside the page."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnseg.common.files import write_text


@dataclass(frozen=True)
class Picture:
    """An image inside a page: its name, and its bytes as a data URI."""

    name: str
    uri: str


def render(template: str, context: Mapping[str, Any], path: Path) -> Path:
    """Write a page; everything but what the templates say themselves is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    write_text(path, environment.get_template(template).render(context))
    return path


def embed(path: Path, name: str) -> Picture:
    """An image file as a data URI: as JPEG where that is smaller, which radiographs are."""
    import io

    from PIL import Image

    png = path.read_bytes()
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").save(buffer, "JPEG", quality=88, optimize=True)
    data, kind = min((png, "png"), (buffer.getvalue(), "jpeg"), key=lambda item: len(item[0]))
    return Picture(name, f"data:image/{kind};base64,{base64.b64encode(data).decode()}")
