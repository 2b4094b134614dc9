"""A run's composed retrieval over the whole gallery of a split, as CIRR scores it.

Legend: Q queries, G gallery, K vectors of a picture, W width.
"""

from typing import cast

import numpy as np
import torch
from msgspec import Struct

from training.batch import Batch
from training.evaluation.metrics.cirr import Query
from training.evaluation.metrics.retrieval import Scores
from training.heads.cir import CirHead
from training.model.model import FusionModel
from training.shards import ShardSet
from training.stream import Stream


class Search(Struct):
    """Every edit of a dataset against every picture of it: what `metrics.cirr` scores and submits."""

    queries: list[Query]
    gallery: list[str]
    scores_QG: Scores


@torch.inference_mode()
def search(model: FusionModel, shards: ShardSet, batch: int, where: torch.device) -> dict[str, Search]:
    """Dataset → its search, for each that has edits with a target. The model is in evaluation mode.

    The gallery is every picture of the dataset's given shards, also those without an edit.
    """
    edits = Stream(shards, ["cir"], batch=batch, shuffle="none", max_tokens=model.trunk.text.max_tokens)
    return {
        dataset.dataset: _search(model, shards, dataset.dataset, batch, where) for dataset in edits.datasets
    }


def _search(model: FusionModel, shards: ShardSet, dataset: str, batch: int, where: torch.device) -> Search:
    head = cast(CirHead, model.heads["cir"])
    gallery: list[str] = []
    targets = []
    for part in _pass(model, shards, dataset, "mfm", batch):
        picture, visible = model.trunk.picture(part.to(where))
        targets.append(head.targets(picture, visible))
        gallery += part.keys
    everything, queries, rows = torch.cat(targets), list[Query](), []
    for part in _pass(model, shards, dataset, "cir", batch):
        moved = part.to(where)
        made = head.queries_of(model.trunk(moved), moved.rows["cir"])
        rows.append(head.scores(made, everything).cpu().numpy())
        queries += _queries(part)
    return Search(queries, gallery, np.concatenate(rows))


def _pass(model: FusionModel, shards: ShardSet, dataset: str, task: str, batch: int) -> Stream:
    """Once over the pictures of a dataset; `mfm` asks for no text, so it takes all."""
    limit = model.trunk.text.max_tokens
    stream = Stream(shards, [task], batch=batch, shuffle="none", max_tokens=limit, datasets={dataset: 1})
    stream.stop = len(stream)
    return stream


def _queries(part: Batch) -> list[Query]:
    return [
        Query(
            id=part.text_id[text],
            reference=part.keys[part.text_picture[text]],
            members=[part.keys[row] for row in part.members[text].tolist() if row >= 0],
            target=part.keys[part.target[text]],
        )
        for text in part.rows["cir"].tolist()
    ]
