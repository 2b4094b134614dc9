"""Answer classification: the question attends to the picture's tokens.

Legend: T texts, L tokens of the question with its summary, N picture tokens, H hidden, A answers.
"""

from torch import Tensor, nn

from training.attention import CrossBlock


class VqaHead(nn.Module):
    """Question states [T,L,H] and picture tokens [T,N,H] → logits [T,A], read off the question's summary."""

    def __init__(self, hidden: int, heads: int, layers: int, answers: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(CrossBlock(hidden, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)
        self.classify = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, answers))

    def forward(self, text: Tensor, text_mask: Tensor, picture: Tensor, visible: Tensor) -> Tensor:
        """Logits over the answer vocabulary."""
        for block in self.blocks:
            text = block(text, text_mask, picture, visible)
        return self.classify(self.norm(text[:, 0]))
