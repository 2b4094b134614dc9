"""What a feature column may be: the choices that params.yaml offers and a manifest states, said once."""

from typing import Literal

Transform = Literal["squash", "target_pad", "letterbox", "centre_crop"]  # contract.geometry
Dtype = Literal["float16", "int8"]  # int8: contract.quantise
# tokens: behind the model's final norm. prenorm: before it. dense: as FG-CLIP reads a map out of a tower.
Output = Literal["tokens", "prenorm", "dense"]


def suffixes(encoder: str, dtype: Dtype) -> list[str]:
    """Members of a picture, in the order of the tar: the tokens [N,D]; of int8 also their scales [N]."""
    tokens = f"{encoder}.npy"
    return [tokens, f"{encoder}.scale.npy"] if dtype == "int8" else [tokens]
