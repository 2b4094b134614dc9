"""Composed retrieval over the whole gallery of a split, as CIRR scores it, and the files for its server.

Legend: Q queries, G gallery, K vectors of a picture, W width.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import torch
from msgspec import Struct

from contract.errors import MismatchError
from contract.index import is_edit
from training.batching.needs import Need
from training.evaluation.held_out import HeldOut, Picture
from training.evaluation.metrics import cirr
from training.evaluation.metrics.cirr import Query
from training.evaluation.metrics.retrieval import Scores
from training.evaluation.scored import Counts, Scored, Section, Wanted, scored
from training.heads.cir import CirHead


class Search(Struct):
    """Every edit of a dataset against every picture of it: what `metrics.cirr` scores and submits."""

    queries: list[Query]
    gallery: list[str]
    scores_QG: Scores


def score(held: HeldOut, wanted: Wanted) -> Scored | str:
    """Recalls over the edits with a target; a submission holds the others too."""
    of = held.pictures(is_edit)
    found = {name: search(held, name, pictures) for name, pictures in of.items()}
    result = scored("cir", {name: {"": section(one, held.noted(of[name]))} for name, one in found.items()})
    if isinstance(result, Scored) and wanted.submission:
        result.files = submission(wanted.submission, found, of)
    return result


@torch.inference_mode()
def search(held: HeldOut, dataset: str, pictures: Sequence[Picture]) -> Search:
    """The gallery is every picture of the dataset. What no encoder could take stands last in every ranking,
    and where it is the reference, the edit alone is searched for.
    """
    head, trunk = cast(CirHead, held.model.heads["cir"]), held.model.trunk
    targets = []
    for batch in held.batches("cir gallery", dataset, pictures, Need(None, lambda _text: False)):
        targets.append(head.targets(*trunk.picture(batch)))
    everything, rows, ids = torch.cat(targets), [], list[str]()
    ask = [picture for picture in pictures if picture.texts]
    for batch in held.batches("cir", dataset, ask, Need(None, is_edit)):
        made = head.queries_of(trunk(batch), batch.rows["cir"])
        rows.append(head.scores(made, everything).cpu().numpy())
        ids += batch.text_id
    scores_QG, asked = np.concatenate(rows), queries(ask)
    assert ids == [query.id for query in asked], "batches hold the edits in the order of the records"
    scores_QG[:, [picture.absent for picture in pictures]] = -np.inf
    return Search(asked, [picture.key for picture in pictures], scores_QG)


def queries(pictures: Sequence[Picture]) -> list[Query]:
    """The edits of these pictures, in their order."""
    return [
        Query(text.id, picture.key, text.members, text.target[0] if text.target else "")
        for picture in pictures
        for text in picture.texts
    ]


def section(found: Search, noted: Counts) -> Section:
    """Recalls and those of a random order; none where every target is withheld."""
    known = [row for row, query in enumerate(found.queries) if query.target]
    some = [found.queries[row] for row in known]
    counts = {
        "queries": len(some),
        "gallery": len(found.gallery),
        "targets_withheld": len(found.queries) - len(some),
    }
    if not some:
        return Section({}, {}, counts, noted)
    values = cirr.scores(some, found.gallery, found.scores_QG[known])
    return Section(values, cirr.chances(some, found.gallery), counts, noted)


def submitted(folder: Path) -> list[Path]:
    """Where `submission` puts its files."""
    return [folder / f"{metric}.json" for metric in cirr.METRICS]


def submission(folder: Path, found: dict[str, Search], of: dict[str, list[Picture]]) -> dict[Path, bytes]:
    """`recall.json` and `recall_subset.json` for CIRR's server, by its own names of pictures."""
    if len(found) > 1:
        raise MismatchError(
            "--submission",
            "holds the edits of one dataset",
            found=", ".join(sorted(found)),
            fix="name the shards of one dataset by --shards",
        )
    ((dataset, one),) = found.items()
    names = {picture.key: picture.id for picture in of[dataset]}
    queries = [_named(query, names) for query in one.queries]
    made = cirr.submissions(queries, [names[key] for key in one.gallery], one.scores_QG)
    sent = (msgspec.json.encode(ranked) + b"\n" for ranked in made.values())
    return dict(zip(submitted(folder), sent, strict=True))


def _named(query: Query, names: dict[str, str]) -> Query:
    """By the dataset's names of pictures, which need not be their keys."""
    members = [names.get(key, key) for key in query.members]
    return Query(query.id, names[query.reference], members, names.get(query.target, query.target))
