"""Answer classification: the question attends to the picture's tokens.

Legend: T texts, L tokens of the question with its summary, P pictures, N their tokens, H hidden, A answers.
"""

from torch import Tensor, nn

from training.attention import ByPicture, CrossBlock


class VqaHead(nn.Module):
    """Question states [T,L,H] and picture tokens [P,N,H] → logits [T,A], read off the question's summary."""

    def __init__(self, hidden: int, heads: int, layers: int, answers: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(CrossBlock(hidden, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)
        self.classify = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, answers))

    def forward(
        self, text: Tensor, mask: Tensor, picture: Tensor, visible: Tensor, text_picture: Tensor
    ) -> Tensor:
        """Logits over the answer vocabulary. text_picture [T]: the picture that each question is about."""
        where = ByPicture(text_picture, len(picture))
        for block in self.blocks:  # of the last one only the summary is used
            queries = 1 if block is self.blocks[-1] else text.shape[1]
            text = block(text, mask, picture, visible, where, queries)
        return self.classify(self.norm(text[:, 0]))
