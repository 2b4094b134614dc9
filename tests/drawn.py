"""Hypothesis strategies for what shards hold."""

from hypothesis import strategies as st

from contract.record import NegText, Record, Regions, Text
from data_pipeline.shards.shard_writer import Sample

keys = st.text("abcXYZ019_-", min_size=1, max_size=64)
contents = st.binary(max_size=1500)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
edges = st.integers(0, 999_999).map(lambda n: n / 1_000_000)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[float, float, float, float]:
    """A valid xyxy box of six decimals."""
    x0, y0 = draw(edges), draw(edges)
    x1, y1 = (draw(st.integers(int(e * 1e6) + 1, 1_000_000).map(lambda n: n / 1_000_000)) for e in (x0, y0))
    return (x0, y0, max(x1, x0 + 1e-6), max(y1, y0 + 1e-6))


@st.composite
def samples(draw: st.DrawFn, members: int = 2, largest: int = 6) -> list[Sample]:
    """Samples in ascending order of key, each with as many members."""
    chosen = draw(st.lists(keys, unique=True, max_size=largest))
    counts = st.tuples(*[st.integers(0, 65535)] * 4)
    return [
        Sample(key, [draw(contents) for _ in range(members)], draw(counts), draw(st.booleans()))
        for key in sorted(chosen)
    ]


@st.composite
def spans(draw: st.DrawFn, length: int) -> tuple[int, int]:
    """A half-open span inside `length` > 0."""
    start = draw(st.integers(0, length - 1))
    return start, draw(st.integers(start + 1, length))


@st.composite
def texts(draw: st.DrawFn, name: str, regions: int) -> Text:
    """A sound text of a picture with that many regions."""
    content = draw(names.filter(bool))
    tokens = draw(st.lists(st.integers(0, 30_000), min_size=1, max_size=8))
    count = draw(st.integers(0, 3))
    rows = st.lists(st.integers(0, regions - 1), max_size=2) if regions else st.just([])
    given = st.lists(st.builds(NegText, text=names, tokens=st.just([1]), kind=st.just("given")), max_size=1)
    return Text(
        id=name,
        role=draw(st.sampled_from(["question", "statement", "caption", "phrase", "edit"])),
        text=content,
        tokens=tokens,
        span_chars=[draw(spans(len(content))) for _ in range(count)],
        span_tokens=[draw(spans(len(tokens))) for _ in range(count)],
        span_regions=[draw(rows) for _ in range(count)],
        span_source=draw(st.sampled_from(["annotated", "matched"])),
        about=draw(rows),
        answer=draw(st.none() | names),
        type=draw(names),
        target=draw(st.lists(keys, max_size=2)),
        members=draw(st.lists(keys, max_size=2)),
        negatives=draw(given),
    )


@st.composite
def records(draw: st.DrawFn) -> Record:
    """A sound record."""
    found = draw(st.lists(boxes(), max_size=3))
    regions = Regions(id=[str(n) for n in range(len(found))], box=found, name=[draw(names) for _ in found])
    held = [draw(texts(str(n), len(found))) for n in range(draw(st.integers(0, 3)))]
    side = st.integers(1, 5000)
    return Record(1, draw(names), draw(side), draw(side), "0" * 64, draw(names), regions, held)
