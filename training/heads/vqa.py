"""Answer classification: the question attends to the picture's tokens.

Legend: T questions, L tokens of one with its summary, B pictures, N their tokens, H hidden, A answers.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from training.batch import Batch
from training.modules.attention import ByPicture, CrossBlock
from training.objectives.outcome import Outcome
from training.trunk.trunk import Shared


class VqaHead(nn.Module):
    """Question states and picture tokens → logits over the answers, read off the question's summary.

    smoothing: share of the target that is spread over all answers.
    """

    ANSWERS = "classify.2"  # the layer whose outputs are the answers

    def __init__(
        self, hidden: int, heads: int, layers: int, answers: int, dropout: float, smoothing: float = 0.0
    ) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.blocks = nn.ModuleList(CrossBlock(hidden, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)
        self.classify = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, answers))

    def forward(self, shared: Shared, batch: Batch) -> Outcome:
        """Cross-entropy of the answer, over questions whose answer is in the vocabulary."""
        answer, logits = batch.answer[batch.rows["vqa"]], self.logits(shared, batch).float()
        known = (answer >= 0).sum().clamp(min=1)
        loss = F.cross_entropy(
            logits, answer, ignore_index=-1, reduction="sum", label_smoothing=self.smoothing
        )
        correct = (logits.argmax(-1) == answer).sum()
        return Outcome((loss / known,), {"accuracy": (correct, len(answer))})

    def logits(self, shared: Shared, batch: Batch) -> Tensor:
        """[T,A] for the questions of the batch."""
        asked = batch.rows["vqa"]
        text, mask, rows = shared.text[asked], shared.text_mask[asked], shared.rows[asked]
        where = ByPicture(rows, len(shared.picture))
        for block in self.blocks:  # of the last one only the summary is used
            queries = 1 if block is self.blocks[-1] else text.shape[1]
            text = block(text, mask, shared.picture, shared.visible, where, queries)
        answers: Tensor = self.classify(self.norm(text[:, 0]))
        return answers
