"""A small transformer over token ids, trained from scratch.

Legend: T texts, L tokens, H hidden.
"""

import torch
from torch import Tensor, nn

from training.modules.attention import SelfBlock


class TextEncoder(nn.Module):
    """Token ids [T,L] → states [T,1+L,H]; the first is a learned summary token."""

    def __init__(
        self, vocabulary: int, hidden: int, heads: int, layers: int, max_tokens: int, dropout: float
    ) -> None:
        super().__init__()
        self.max_tokens = max_tokens
        self.words = nn.Embedding(vocabulary, hidden)
        self.places = nn.Parameter(torch.zeros(1 + max_tokens, hidden))
        self.summary = nn.Parameter(torch.zeros(hidden))
        self.blocks = nn.ModuleList(SelfBlock(hidden, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)
        for parameter in (self.words.weight, self.places, self.summary):
            nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens_TL: Tensor, mask_TL: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the states and their mask [T,1+L]. Tokens beyond `max_tokens` are not looked at."""
        tokens_TL, mask_TL = tokens_TL[:, : self.max_tokens], mask_TL[:, : self.max_tokens]
        words = self.words(tokens_TL)
        summary = self.summary.expand(len(tokens_TL), 1, -1)
        x = torch.cat([summary, words], dim=1) + self.places[: 1 + tokens_TL.shape[1]]
        mask = torch.cat([mask_TL.new_ones(len(mask_TL), 1), mask_TL], dim=1)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x), mask
