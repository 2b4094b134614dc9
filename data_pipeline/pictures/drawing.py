"""A record as a picture: its boxes, and under them its texts with the words of each box in its colour."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from contract.record import Record, Text

# Told apart by most eyes and readable on white; a region takes the colour of its row, round and round.
PALETTE = (
    "#0072b2", "#d55e00", "#008a64", "#b0458c", "#7a5c00",
    "#5b3fc4", "#c0143c", "#00788c", "#4f7a00", "#8a4a2f",
)  # fmt: skip
INK, FAINT, PAPER, BLANK = "#1d2430", "#6b7482", "#ffffff", "#e9ecf1"
LONGEST = 760  # pixels of the drawn picture's longest side
NARROWEST = 680  # pixels: room for a line of text
MARGIN, GAP, LINE, INDENT = 24, 10, 28, 108
TEXT_SIZE, LABEL_SIZE = 18, 16
MOST_TEXTS = 16
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class Run(NamedTuple):
    """Consecutive characters of one colour; None for those of no region."""

    text: str
    colour: str | None


def colour(row: int) -> str:
    """The colour of a region by its row in the record."""
    return PALETTE[row % len(PALETTE)]


def tint(name: str) -> str:
    """A colour thinned to a background for words: one part in seven on white."""
    parts = (int(name[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{255 - (255 - part) // 7:02x}" for part in parts)


def runs(text: Text) -> list[Run]:
    """A text cut where its spans begin and end; a text about one region is all of that colour.

    Where spans overlap, the one that starts later is on top.
    """
    whole = colour(text.about[0]) if text.about else None
    colours: list[str | None] = [whole] * len(text.text)
    for (start, end), rows in zip(text.span_chars, text.span_regions, strict=True):
        colours[start:end] = [colour(rows[0]) if rows else whole or FAINT] * (end - start)
    cuts = [at for at in range(len(colours)) if at == 0 or colours[at] != colours[at - 1]]
    ends = [*cuts[1:], len(colours)]
    return [Run(text.text[start:end], colours[start]) for start, end in zip(cuts, ends, strict=True)]


def draw(record: Record, picture: Image.Image | None) -> Image.Image:
    """The record on white paper. picture: None draws the boxes on a blank one."""
    shown = _enlarged(record, picture)
    width = max(shown.width, NARROWEST) + 2 * MARGIN
    below = MARGIN + shown.height + GAP
    texts = record.texts[:MOST_TEXTS]
    lines = [list(_wrapped(text, width - 2 * MARGIN - INDENT)) for text in texts]
    rest = len(record.texts) - len(texts)
    height = below + sum(LINE * len(part) + GAP for part in lines) + (LINE if rest else 0) + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    _draw_boxes(ImageDraw.Draw(shown), shown, record)
    sheet.paste(shown, ((width - shown.width) // 2, MARGIN))
    top = below + GAP
    for text, part in zip(texts, lines, strict=True):
        top = _draw_text(pen, text, part, top)
    if rest:
        pen.text((MARGIN + INDENT, top), f"… and {rest} more texts", FAINT, _font(TEXT_SIZE))
    return sheet


def _enlarged(record: Record, picture: Image.Image | None) -> Image.Image:
    """The picture at a size at which labels can be read."""
    scale = LONGEST / max(record.width, record.height)
    size = (max(1, round(record.width * scale)), max(1, round(record.height * scale)))
    if picture is None:
        return Image.new("RGB", size, BLANK)
    return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def _draw_boxes(pen: ImageDraw.ImageDraw, picture: Image.Image, record: Record) -> None:
    """Outlines first, the large ones below; then labels, each where no other stands."""
    regions = record.regions
    area = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in regions.box]
    frames = [_pixels(box, picture) for box in regions.box]
    order = sorted(range(len(frames)), key=lambda row: -area[row])
    for row in order:
        pen.rectangle(_grown(frames[row]), outline=PAPER, width=5)
        pen.rectangle(frames[row], outline=colour(row), width=3)
    taken: list[tuple[float, float, float, float]] = []
    for row in order:
        label = regions.name[row] or (regions.id[row] if len(frames) <= 12 else "")
        label = " ".join(label.split())
        if label:
            taken.append(_draw_label(pen, picture, label, colour(row), frames[row], taken))


def _pixels(box: Sequence[float], picture: Image.Image) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = box
    width, height = picture.width - 1, picture.height - 1
    return round(x0 * width), round(y0 * height), round(x1 * width), round(y1 * height)


def _grown(frame: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """One pixel more on each side: a light edge keeps a box visible on its own colour."""
    x0, y0, x1, y1 = frame
    return x0 - 1, y0 - 1, x1 + 1, y1 + 1


def _draw_label(
    pen: ImageDraw.ImageDraw,
    picture: Image.Image,
    label: str,
    paint: str,
    frame: tuple[int, int, int, int],
    taken: Sequence[tuple[float, float, float, float]],
) -> tuple[float, float, float, float]:
    """A name on its colour at the box's corner, or the next place down that is free; returns its place."""
    font = _font(LABEL_SIZE)
    width, height = pen.textlength(label, font) + 10, LABEL_SIZE + 8
    x = min(max(frame[0], 0), max(0, picture.width - width))
    y = float(frame[1] - height if frame[1] >= height else frame[1])
    place = (x, y, x + width, y + height)
    while any(_overlap(place, other) for other in taken) and place[3] + height <= picture.height:
        place = (x, place[1] + height, x + width, place[3] + height)
    pen.rectangle(place, fill=paint)
    pen.text((place[0] + 5, place[1] + height / 2), label, PAPER, font, anchor="lm")
    return place


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _wrapped(text: Text, width: float) -> Iterator[list[Run]]:
    """Lines of runs no wider than `width` pixels; a line breaks between words."""
    font = _font(TEXT_SIZE)
    line: list[Run] = []
    used = 0.0
    for run in [*runs(text), *_remarks(text)]:
        for word in _words(run.text):
            length = font.getlength(word.rstrip())
            if line and used + length > width:
                yield line
                line, used = [], 0.0
            line.append(Run(word, run.colour))
            used += font.getlength(word)
    yield line


def _remarks(text: Text) -> list[Run]:
    answer = [Run("    answer ", FAINT), Run(text.answer, INK)] if text.answer is not None else []
    target = [Run("    target ", FAINT), Run(", ".join(text.target), INK)] if text.target else []
    return answer + target


def _words(text: str) -> list[str]:
    """Pieces that end in a space, so that they join to the text again; a newline shows as a mark."""
    pieces = text.replace("\n", " ¶ ").split(" ")
    return [piece + " " for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])


def _draw_text(pen: ImageDraw.ImageDraw, text: Text, lines: Sequence[Sequence[Run]], top: int) -> int:
    """The role, then the text's lines; returns where the next text may begin."""
    font = _font(TEXT_SIZE)
    pen.text((MARGIN, top + LINE / 2), text.role, FAINT, font, anchor="lm")
    for line in lines:
        x: float = MARGIN + INDENT
        for word, paint in line:
            length = font.getlength(word)
            if paint not in (None, INK, FAINT):
                pen.rectangle((x, top + 3, x + length, top + LINE - 3), fill=tint(str(paint)))
            pen.text((x, top + LINE / 2), word, paint or INK, font, anchor="lm")
            x += length
        top += LINE
    return top + GAP


def _font(size: int) -> Font:
    return ImageFont.load_default(size)
