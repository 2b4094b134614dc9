"""The scorer of each task: a row each."""

from training.evaluation import (
    cir_scores,
    itc_scores,
    itm_scores,
    mfm_scores,
    region_scores,
    vqa_scores,
)
from training.evaluation.scored import Scorer

SCORERS: dict[str, Scorer] = {
    "vqa": vqa_scores.score,
    "itc": itc_scores.score,
    "itm": itm_scores.score,
    "region": region_scores.score,
    "cir": cir_scores.score,
    "mfm": mfm_scores.score,
}
