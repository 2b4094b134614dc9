"""One search for pictures and texts: exact where it is affordable, certified where it is not."""

from contract.manifest import Certificate
from contract.params import NegativesParams
from data_pipeline.negatives import approximate, neighbours
from data_pipeline.negatives.neighbours import Found, Rows, Vectors


def search(
    what: str, vectors_ND: Vectors, groups_N: Rows, wanted: int, settings: NegativesParams
) -> tuple[Found, Certificate]:
    """The nearest others of every row, never of its own group. what: for the message of a missed recall."""
    if len(vectors_ND) > settings.exact_up_to:
        return approximate.search(what, vectors_ND, groups_N, wanted, settings.probes, settings.min_recall)
    return neighbours.nearest(vectors_ND, groups_N, wanted), Certificate("exact", len(vectors_ND), wanted)
