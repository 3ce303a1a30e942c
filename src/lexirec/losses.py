"""Losses as pure functions of scores. All in float32; the caller switches autocast off.

Relations: :func:`infonce` with one negative and ``tau=1`` equals :func:`bpr`; :func:`infonce` with all items as negatives is
:func:`softmax_over_items`.
"""

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from torch import Tensor


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """Bayesian personalised ranking: ``mean softplus(s- - s+)``.

    | input | holds |
    |---|---|
    | ``positive`` | ``(B,)`` scores of the positives |
    | ``negative`` | ``(B,)`` scores of one unseen item each |

    Source: Rendle et al., UAI 2009. LightGCN's official code adds 1e-10 inside the logarithm, which changes nothing above 1e-9.

    >>> round(bpr(torch.tensor([0.461643]), torch.tensor([0.367851])).item(), 3)
    0.647
    """
    return F.softplus(negative - positive).mean()


def infonce(positive: Tensor, negatives: Tensor, tau: float) -> Tensor:
    """Cross entropy of the positive against sampled negatives; the positive is in the denominator.

    | input | holds |
    |---|---|
    | ``positive`` | ``(B,)`` scores of the positives |
    | ``negatives`` | ``(B, n)`` scores of sampled items; a duplicate counts twice |

    Args:
        positive: see the table.
        negatives: see the table.
        tau: temperature that divides every score, above 0.

    Source: AlphaRec (arXiv 2407.05441), its loss; computed through log-sum-exp, since ``exp(1 / tau)`` overflows in half precision.

    >>> round(infonce(torch.zeros(1), torch.zeros(1, 256), tau=0.15).item(), 6)
    5.549076
    """
    logits = torch.cat([positive[:, None], negatives], dim=1) / tau  # (B, 1 + n)
    return (torch.logsumexp(logits, dim=1) - logits[:, 0]).mean()


def softmax_over_items(scores: Tensor, targets: Tensor, tau: float) -> Tensor:
    """Cross entropy over all items.

    | input | holds |
    |---|---|
    | ``scores`` | ``(B, I)``; ``-inf`` where an item is no candidate |
    | ``targets`` | ``(B,)`` int64 position of the positive |

    >>> round(softmax_over_items(torch.zeros(1, 4), torch.tensor([2]), tau=0.2).item(), 4)
    1.3863
    """
    return F.cross_entropy(scores / tau, targets)


def layer0_regulariser(*rows: Tensor) -> Tensor:
    """``0.5 / B`` times the squared norm of the batch's layer-0 rows (users, positives, negatives), before weighting.

    Source: LightGCN's official code. Layer 0 and not the final layer: the final one does not reproduce the paper.

    >>> layer0_regulariser(torch.ones(2, 3), torch.ones(2, 3)).item()
    3.0
    """
    return 0.5 * torch.stack([r.square().sum() for r in rows]).sum() / len(rows[0])
