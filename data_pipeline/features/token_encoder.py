"""What every frozen encoder is, whatever its architecture: pixels in, a square grid of tokens out."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TokenEncoder(nn.Module, ABC):
    """Pixels [B,3,S,S] float32, normalised by `mean` and `std` (of RGB in [0, 1]) → tokens [B,N,D].

    N = grid² row-major cells, behind one CLS token if `has_cls`. `width` is D.
    """

    has_cls: bool
    grid: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @abstractmethod
    def forward(self, pixels: Tensor) -> Tensor:
        """Tokens of normalised pixels."""

    def own_part(self, checkpoint: dict[str, Tensor]) -> dict[str, Tensor]:
        """The entries of a published checkpoint that belong to this model, under this model's names."""
        return checkpoint
