"""A Grad-CAM as SVG: the picture under what the whole text looks at, then under what each of its words does.

Lengths are units of the drawing; y grows downwards.
"""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from html import escape

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from contract.geometry import Affine

SIDE, GAP, HEAD, ACROSS = 240, 16, 22, 4  # longest side of a panel, space around it, its title, panels a row
DARKEST = 0.75  # opacity of a panel's strongest cell
FAINTEST = 0.005  # of the strongest: what is less cannot be seen
STYLE = "text{font:13px system-ui,sans-serif;fill:#222}.head{font-weight:600}.cell{fill:#e02020}"


class Photo(Struct):
    """To draw on. jpeg: of any size; width, height: its proportions; place: what its encoder saw."""

    jpeg: bytes
    width: float
    height: float
    place: Affine


def svg(title: str, photo: Photo, panels: Sequence[tuple[str, NDArray[np.float32]]]) -> str:
    """panels: name → [G²] ≥ 0, row-major cells of the encoder's input; each by its own strongest."""
    scale = SIDE / max(photo.width, photo.height)
    width, height = photo.width * scale, photo.height * scale
    full = GAP + min(ACROSS, len(panels)) * (width + GAP)
    down = GAP + HEAD + -(-len(panels) // ACROSS) * (height + HEAD + GAP)
    view = f'viewBox="0 0 {full:.0f} {down:.0f}" width="{full:.0f}" height="{down:.0f}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {view}>',
        f"<style>{STYLE}</style>",
        *_definitions(photo.jpeg, width, height),
        f'<text class="head" x="{GAP}" y="{GAP + 4}">{escape(title)}</text>',
    ]
    for number, (name, cells) in enumerate(panels):
        row, column = divmod(number, ACROSS)
        x, y = GAP + column * (width + GAP), GAP + HEAD + row * (height + HEAD + GAP)
        parts += [
            f'<g transform="translate({x:.1f} {y:.1f})"><use href="#photo"/><g clip-path="url(#frame)">',
            *_cells(cells, photo.place, width, height),
            f'</g><text x="0" y="{height + 16:.1f}">{escape(name)}</text></g>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def _definitions(jpeg: bytes, width: float, height: float) -> list[str]:
    """The picture, once, and its frame, beyond which nothing of a map is drawn."""
    size = f'width="{width:.1f}" height="{height:.1f}"'
    content = "data:image/jpeg;base64," + b64encode(jpeg).decode("ascii")
    return [
        f'<defs><image id="photo" {size} preserveAspectRatio="none" href="{content}"/>',
        f'<clipPath id="frame"><rect {size}/></clipPath></defs>',
    ]


def _cells(cells: NDArray[np.float32], place: Affine, width: float, height: float) -> Iterator[str]:
    """What is looked at, as rectangles over the picture where the encoder's crop or padding puts them."""
    grid, strongest = round(len(cells) ** 0.5), float(cells.max())
    steps = np.arange(grid + 1) / grid
    edges = place.invert(np.stack([steps, steps], axis=1)) * (width, height)
    for number in np.flatnonzero(cells >= FAINTEST * max(strongest, 1e-30)):
        row, column = divmod(int(number), grid)
        x, y = edges[column, 0], edges[row, 1]
        size = f'width="{edges[column + 1, 0] - x:.1f}" height="{edges[row + 1, 1] - y:.1f}"'
        opacity = DARKEST * float(cells[number]) / strongest
        yield f'<rect class="cell" x="{x:.1f}" y="{y:.1f}" {size} fill-opacity="{opacity:.3f}"/>'
