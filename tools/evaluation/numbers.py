"""How pages write numbers: filters for templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape


def page_template(path: Path) -> Any:
    """The template in the file `path`, with `FILTERS`; what it does not know is an error.

    It may include what is beside it and beside this module, such as the pages' style, ``page.css.jinja``.
    """
    environment = Environment(
        loader=FileSystemLoader([path.parent, Path(__file__).parent]),
        autoescape=select_autoescape(["html", "jinja"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment.get_template(path.name)


def _number(pattern: str, factor: int = 1) -> Any:
    """A filter that writes a number by `pattern`, with a true minus sign, and a dash where there is none."""

    def write(value: float | None) -> str:
        return "–" if value is None else pattern.format(factor * value).replace("-", "−")

    return write


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {round(seconds % 60):02d} s"


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


FILTERS: dict[str, Any] = {
    "three": _number("{:.3f}"),
    "four": _number("{:.4f}"),
    "five": _number("{:.5f}"),
    "signed_four": _number("{:+.4f}"),
    "one": _number("{:.1f}"),
    "two": _number("{:.2f}"),
    "percent": _number("{:.1f} %", 100),
    "signed_percent": _number("{:+.1f} %", 100),
    "thousands": _number("{:,}"),
    "duration": _duration,
    "size": _size,
}
