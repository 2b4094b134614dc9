"""What every frozen encoder is, whatever its architecture: pixels in, a square grid of tokens out."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TokenEncoder(nn.Module, ABC):
    """Pixels [B,3,S,S] float32, normalised by `mean` and `std` (of RGB in [0, 1]) → tokens [B,N,D].

    N = grid² row-major cells, behind one CLS token if `has_cls`. `width` is D. config: sha256 of what shapes
    the model beside its weights and its entry in params.yaml, "" for nothing.
    """

    has_cls: bool
    grid: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    config: str = ""

    @abstractmethod
    def forward(self, pixels: Tensor) -> Tensor:
        """Tokens of normalised pixels."""

    def own_part(self, checkpoint: dict[str, Tensor]) -> dict[str, Tensor]:
        """The entries of a published checkpoint that belong to this model, under this model's names."""
        return checkpoint


def unmixed(block: Callable[[Tensor], Tensor], tokens_BND: Tensor) -> Tensor:
    """A transformer block over each token by itself, [B,N,D]: attention to one token reads its own value.

    It is the last block of FG-CLIP's dense map: x + W_o W_v LN(x), then the MLP.
    """
    alone = block(tokens_BND.flatten(0, 1).unsqueeze(1))
    return alone.view_as(tokens_BND)
