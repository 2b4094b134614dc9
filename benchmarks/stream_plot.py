"""benchmarks/results/stream_readers.json → stream.svg. Runs where matplotlib is: `make bench-env`."""

import json
from pathlib import Path

import matplotlib
from matplotlib import pyplot

FOLDER = Path(__file__).parent / "results"
COLOURS = {"raw": "#9aa0a6", "Fuseline": "#1a73e8", "LitData": "#e8710a", "MosaicML": "#9334e6"}
OTHER = "#188038"


def main() -> None:
    """A group of bars for each size of sample: every reader at its best setting, as a share of raw."""
    rows = json.loads((FOLDER / "stream_readers.json").read_text())
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    matplotlib.rcParams |= {"svg.hashsalt": "stream", "font.size": 9}
    figure, axes = pyplot.subplots(1, len(sizes), figsize=(3.4 * len(sizes), 2.6), squeeze=False)
    for axis, size in zip(axes[0], sizes, strict=True):
        best = fastest([row for row in rows if row["size"] == size])
        bars = axis.barh(list(best), list(best.values()), color=[COLOURS.get(name, OTHER) for name in best])
        axis.bar_label(bars, fmt="{:,.0f}", padding=3)
        axis.set(title=f"samples of {size}", xlabel="samples per second", xlim=(0, 1.25 * max(best.values())))
        axis.invert_yaxis()
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(FOLDER / "stream.svg", metadata={"Date": None})


def fastest(rows: list[dict]) -> dict[str, float]:
    """The best rate of each reader, the fastest first."""
    best: dict[str, float] = {}
    for row in rows:
        best[row["reader"]] = max(row["rate"], best.get(row["reader"], 0.0))
    return dict(sorted(best.items(), key=lambda item: -item[1]))


if __name__ == "__main__":
    main()
