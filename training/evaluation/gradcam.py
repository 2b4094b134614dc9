"""Where itm looks: Grad-CAM over the attention of a text's tokens to the picture's (as BLIP-ITM, PNP-VQA).

`predict --map` draws it. For a model of `training.run.trained_model`, whose picture tokens all stand on their
places. A fusion may have mixed what lies on one place into another, so that a map of the
fused tokens is none of the picture: the default is the first column before a second is fused into it.

Legend: N pairs, L tokens of a text with its summary, P pictures, Q queries of all texts of one, C picture
tokens, H hidden, K patches.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from msgspec import Struct
from torch import Tensor, nn

from contract.errors import ParamsError
from training.batch import Batch
from training.heads.itm import ItmHead
from training.model.model import FusionModel
from training.modules.attention import Attention, ByPicture, CrossBlock
from training.trunk.trunk import Shared

SUMMARY, MEAN, TOKENS = 0, 1, 2  # rows of a map: the summary's, the mean over tokens, then each token's
TRUE = 1  # the class of a pair that matches
LAST = -1e6  # below the logarithm of any weight: drawn only when nothing else is left


class Seen(Struct):
    """What an attention was given in a pass, [P,Q,H], [P,C,H], [P,C], and what it mixed of it, [P,Q,H]."""

    x: Tensor
    context: Tensor
    mask: Tensor
    mixed: Tensor | None = None


def gradcam(
    model: FusionModel, batch: Batch, text: Tensor, picture: Tensor, block: int = -2, *, fused: bool = False
) -> Tensor:
    """`attention_map` of pairs [N] of the batch's texts and pictures. ParamsError without task itm.

    fused: over the tokens that the model itself attends to, which may stand for other places than their own.
    """
    if "itm" not in model.heads:
        raise ParamsError("train.tasks", "this run matches nothing", found=", ".join(model.heads))
    with torch.no_grad():
        shared = model.trunk(batch)
        if not fused:
            shared.picture, shared.visible = model.trunk.picture(batch, fused=False)
    return attention_map(cast(ItmHead, model.heads["itm"]), shared, text, picture, block)


def attention_map(head: ItmHead, shared: Shared, text: Tensor, picture: Tensor, block: int = -2) -> Tensor:
    """[N,1+L,C] ≥ 0 of pairs of texts and pictures: rows SUMMARY, MEAN, then one for each token.

    Mean over heads of A ⊙ max(∂ Σ logit[true] / ∂A, 0) ⊙ text mask, A being the attention of `block`. The
    last block reads with the summary alone, so it cannot be taken. C: as in shared.picture, CLS included.
    """
    cross = _attention(head, block)
    with torch.enable_grad(), _watched(cross) as seen:
        logits = head.logits(shared, text, picture)
        assert seen[0].mixed is not None
        (slope,) = torch.autograd.grad(logits[:, TRUE].sum(), seen[0].mixed)
    with torch.no_grad():
        cam_PQC, mask = _positive(cross, seen[0], slope), shared.text_mask[text]
        tokens, _, rows = head.read(shared, text, picture)
        cam = ByPicture(rows, len(tokens)).unpack(cam_PQC, mask.shape[1]) * mask[..., None]
        words = mask[:, 1:].sum(1).clamp(min=1)[:, None]
        return torch.cat([cam[:, :1], (cam[:, 1:].sum(1) / words)[:, None], cam[:, 1:]], dim=1)


def _attention(head: ItmHead, block: int) -> Attention:
    """A block's attention to the picture."""
    blocks = len(head.blocks)
    if not -blocks <= block < blocks or block % blocks == blocks - 1:
        raise ParamsError("block", "reads with no token of the text", found=f"{block} of {blocks}")
    return cast(CrossBlock, head.blocks[block]).cross


@contextmanager
def _watched(attention: Attention) -> Iterator[list[Seen]]:
    """What the attention sees until the end of the context; a slope can be taken at what it mixes."""
    passes: list[Seen] = []

    def given(_module: nn.Module, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
        passes.append(Seen(*inputs))

    def mixed(_module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        passes[-1].mixed = inputs[0].detach().requires_grad_()
        return (passes[-1].mixed,)

    hooks = [attention.register_forward_pre_hook(given), attention.out.register_forward_pre_hook(mixed)]
    try:
        yield passes
    finally:
        for hook in hooks:
            hook.remove()


def _positive(attention: Attention, seen: Seen, slope_PQH: Tensor) -> Tensor:
    """[P,Q,C] mean over heads of A ⊙ max(G,0). What is mixed is A·V, so the slope G at A is slope · Vᵀ."""
    key, value = attention.key_value(seen.context).chunk(2, dim=-1)
    query, key, value, slope = (
        part.unflatten(-1, (attention.heads, -1)).transpose(1, 2)
        for part in (attention.query(seen.x), key, value, slope_PQH)
    )
    scores = query @ key.mT / query.shape[-1] ** 0.5
    lowest = torch.finfo(scores.dtype).min  # not −∞: a picture may have no visible token
    weights = scores.masked_fill(~seen.mask[:, None, None], lowest).softmax(-1)
    return (weights * (slope @ value.mT).clamp(min=0)).mean(1) * seen.mask[:, None]


def patches(cam_NC: Tensor, count: int, generator: torch.Generator, cls: bool) -> Tensor:
    """[N,K] ascending numbers of tokens, drawn without replacement, the likelier the greater their weight.

    A CLS, which stands first, is never drawn. K is `count`, or all cells where there are fewer; where fewer
    have a weight above zero, others follow at random.
    """
    cells = cam_NC[:, int(cls) :].double()
    uniform = torch.rand(cells.shape, generator=generator, dtype=torch.float64).clamp(min=1e-300)
    gumbel = -(-uniform.log()).log().to(cells.device)
    likely = torch.where(cells > 0, cells.clamp(min=1e-300).log(), LAST) + gumbel
    drawn = likely.topk(min(count, cells.shape[1]), dim=1).indices
    return drawn.sort(dim=1).values + int(cls)
