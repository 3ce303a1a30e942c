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


def soft_clip(x: Tensor, y: Tensor, tau: Tensor | float) -> Tensor:
    """Symmetric contrast of two views against soft targets made of the views' own similarities; inner products, no normalisation.

    | input | holds |
    |---|---|
    | ``x`` | ``(B, D)`` first view (in alignment: the teacher's rows) |
    | ``y`` | ``(B, D)`` second view; row ``i`` belongs to row ``i`` of ``x`` |

    Targets are ``softmax(tau (x x' + y y') / 2)`` over rows and get gradients too; for the other direction they are transposed as they
    are, so their rows need not sum to one and ``soft_clip(x, y) != soft_clip(y, x)``. Vectors of large norm make it
    :func:`symmetric_infonce` on inner products; unit vectors make the targets nearly flat: don't normalise and keep ``tau`` at 2 or 3.

    Args:
        x: see the table.
        y: see the table.
        tau: temperature, above 0; a tensor may be learned.

    Source: LLMEmb's official code, commit 3458a5e (fine-tuning: learned from 3; alignment: 2).

    >>> round(soft_clip(torch.eye(2), torch.eye(2), tau=2.0).item(), 6)
    0.533678
    """
    x, y = x.float(), y.float()
    logits = x @ y.T / tau  # (B, B)
    targets = torch.softmax(tau * (x @ x.T + y @ y.T) / 2, dim=1)  # (B, B)
    rows = -(targets * torch.log_softmax(logits, dim=1)).sum(dim=1)
    columns = -(targets.T * torch.log_softmax(logits.T, dim=1)).sum(dim=1)
    return (rows + columns).mean() / 2


def symmetric_infonce(x: Tensor, y: Tensor, tau: Tensor | float) -> Tensor:
    """Cross entropy of each row's partner among the batch, by cosine, both ways.

    | input | holds |
    |---|---|
    | ``x`` | ``(B, D)`` first view |
    | ``y`` | ``(B, D)`` second view; row ``i`` belongs to row ``i`` of ``x`` |

    Source: InfoNCE as LLMEmb's paper words its loss (its code has :func:`soft_clip`).

    >>> round(symmetric_infonce(torch.eye(2), torch.eye(2), tau=1.0).item(), 6)
    0.313262
    """
    logits = F.normalize(x.float(), dim=1) @ F.normalize(y.float(), dim=1).T / tau  # (B, B)
    targets = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def bce(positive: Tensor, negatives: Tensor) -> Tensor:
    """Binary cross entropy with sampled negatives: ``mean softplus(-s+) + mean softplus(s-)``, two separate means.

    | input | holds |
    |---|---|
    | ``positive`` | ``(B,)`` scores of the positives |
    | ``negatives`` | ``(B, n)`` scores of sampled items |

    Source: SASRec (Kang and McAuley, ICDM 2018), as LLMEmb's code has it.

    >>> round(bce(torch.zeros(1), torch.zeros(1, 1)).item(), 6)
    1.386294
    """
    return F.softplus(-positive).mean() + F.softplus(negatives).mean()


def gbce(positive: Tensor, negatives: Tensor, n_items: int, calibration: float) -> Tensor:
    """Generalised binary cross entropy, which undoes the overconfidence that sampling few of many negatives brings.

    The positive's probability is taken to the power ``beta``:
    ``-(beta log sigmoid(s+) + sum log(1 - sigmoid(s-))) / (n + 1)`` with ``beta = a (t (1 - 1 / a) + 1 / a)``, ``a = n / (n_items - 1)``.

    Args:
        positive: ``(B,)`` scores of the positives.
        negatives: ``(B, n)`` scores of sampled items.
        n_items: items that negatives are drawn from, the positive included.
        calibration: ``t`` in [0, 1]; 0 is plain binary cross entropy, 1 calibrates fully.

    Source: Petrov and Macdonald, RecSys 2023 (gSASRec), arXiv 2308.07192.

    >>> plain = gbce(torch.tensor([1.0]), torch.tensor([[0.5]]), n_items=100, calibration=0.0)
    >>> round(plain.item(), 4), round((bce(torch.tensor([1.0]), torch.tensor([[0.5]])) / 2).item(), 4)
    (0.6437, 0.6437)
    """
    n = negatives.shape[1]
    rate = n / max(n_items - 1, n)
    beta = rate * (calibration * (1 - 1 / rate) + 1 / rate)
    return (beta * F.softplus(-positive) + F.softplus(negatives).sum(1)).mean() / (n + 1)
