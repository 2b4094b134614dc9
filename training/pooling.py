"""Many tokens → one vector, over a mask. Legend: B batch, N tokens, H hidden."""

from torch import Tensor


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean [B,H] of tokens [B,N,H] where mask [B,N] is True; zero where it is nowhere."""
    weight = mask.to(tokens.dtype)[..., None]
    return (tokens * weight).sum(1) / weight.sum(1).clamp(min=1)
