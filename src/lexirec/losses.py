"""Losses as pure functions of scores. All in float32; the caller switches autocast off.

Relations: :func:`infonce` with one negative and ``tau=1`` equals :func:`bpr`; :func:`infonce` with all items as negatives is
:func:`softmax_over_items`.
"""

import math

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


def soft_targets(x: Tensor, y: Tensor, tau: Tensor | float) -> Tensor:
    """What :func:`soft_clip` aims at: how alike the pairs are among themselves, ``(B, B)``, rows that sum to one; rounds in float32."""
    return torch.softmax(tau * (x.float() @ x.float().T + y.float() @ y.float().T) / 2, dim=1)


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
    targets = soft_targets(x, y, tau)  # (B, B)
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


def user_item_contrast(users: Tensor, positives: Tensor, negatives: Tensor, tau: float, false_negatives: Tensor | None = None) -> Tensor:
    """Cross entropy, by cosine, of each user's own positive among the batch's positives and negatives; users to items only.

    | input | holds |
    |---|---|
    | ``users`` | ``(B, D)`` |
    | ``positives`` | ``(B, D)``; row ``i`` belongs to user ``i`` |
    | ``negatives`` | ``(B, D)``, or ``(0, D)`` for none: a sampled item of each user, a candidate for all |

    Args:
        users: see the table.
        positives: see the table.
        negatives: see the table.
        tau: temperature, above 0.
        false_negatives: ``(B, B + n)`` bool; candidates that a user has chosen too, left out of the sum. Never the user's own positive.

    Relations: without negatives it is :func:`infonce` on cosines with the others' positives, and one direction of
    :func:`symmetric_infonce`.

    Source: EasyRec's official code (HKUDS/EasyRec, commit 95c8ede), ``tau`` 0.05, nothing left out.

    >>> users, positives = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.8, 0.6], [0.28, 0.96]])
    >>> round(user_item_contrast(users, positives, torch.tensor([[0.6, 0.8], [0.96, 0.28]]), tau=0.05).item(), 4)
    1.6407
    """
    candidates = F.normalize(torch.cat([positives, negatives]).float(), dim=1)  # (B + n, D)
    logits = F.normalize(users.float(), dim=1) @ candidates.T / tau  # (B, B + n)
    if false_negatives is not None:
        logits = logits.masked_fill(false_negatives, -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(users), device=users.device))


def next_item_weights(lengths: Tensor, reduction: str) -> Tensor:
    """Weight of each target token's cross entropy, ``(T,)``, so that their weighted sum is the mean over sequences of a sum or mean.

    Args:
        lengths: ``(B,)`` target tokens of each sequence.
        reduction: ``"mean"`` over a sequence's tokens, or their ``"sum"``.

    >>> next_item_weights(torch.tensor([2, 1]), "mean").tolist(), next_item_weights(torch.tensor([2, 1]), "sum").tolist()
    ([0.25, 0.25, 0.5], [0.5, 0.5, 0.5])
    """
    share = torch.ones(len(lengths), device=lengths.device) if reduction == "sum" else 1.0 / lengths.float()
    return (share / max(len(lengths), 1)).repeat_interleave(lengths)


def next_item(log_probs: Tensor, lengths: Tensor, reduction: str = "mean") -> Tensor:
    """Negative log-likelihood of the target items' tokens; tokens of the history have no part in it.

    | input | holds |
    |---|---|
    | ``log_probs`` | ``(T,)`` log-probability of each target token, sequences one after another |
    | ``lengths`` | ``(B,)`` target tokens of each sequence |

    Source: CALRec (arXiv 2405.02429) prints the sum over a sequence; a mean keeps its size apart from the text's length.

    >>> round(next_item(torch.tensor([0.5, 0.25]).log(), torch.tensor([2]), "sum").item(), 4)
    2.0794
    """
    return -(log_probs * next_item_weights(lengths, reduction)).sum()


def target_contrasts(vectors: Tensor, targets: Tensor, tau: float) -> Tensor:
    """The terms of :func:`target_contrast`, one for each target, ``(N,)``."""
    scores = F.normalize(targets.float(), dim=1) @ F.normalize(vectors.float(), dim=1).T / tau  # (i, j)
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device), reduction="none")


def target_contrast(vectors: Tensor, targets: Tensor, tau: float) -> Tensor:
    """Cross entropy of each target's own partner among all ``vectors`` of the batch, by cosine: softmax over columns; the mean.

    | input | holds |
    |---|---|
    | ``vectors`` | ``(N, D)`` targets as seen after their history, or histories |
    | ``targets`` | ``(N, D)`` targets seen alone; row ``i`` belongs to row ``i`` of ``vectors`` |

    For a fixed target ``i`` the denominator runs over ``vectors``, not over other targets: ``S[j, i] = cos(vectors_j, targets_i) / tau``.
    It lies in :func:`contrast_bounds`. Source: CALRec (arXiv 2405.02429); ``souradipp76/PixRec`` normalises over rows instead.

    >>> t = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> round(target_contrast(torch.tensor([[2.0, 0.0], [1.0, 1.0], [-1.0, 1.0]]), t, 0.5).item(), 6)
    1.265748
    """
    return target_contrasts(vectors, targets, tau).mean()


def contrast_bounds(n: int, tau: float) -> tuple[float, float, float]:
    """Least value, value of equal vectors and largest value of :func:`target_contrast` in a batch of ``n``.

    >>> [round(bound, 6) for bound in contrast_bounds(64, 0.5)]
    [0.767273, 4.158883, 8.143425]
    """
    return math.log1p((n - 1) * math.exp(-2 / tau)), math.log(n), math.log1p((n - 1) * math.exp(2 / tau))


def calrec_total(written: Tensor, target_target: Tensor, user_target: Tensor, alpha: float, beta: float) -> Tensor:
    """``(1 - alpha - beta) L_NIG + alpha L_TT + beta L_UT``; ``beta`` may be below 0, since both contrasts are bounded.

    >>> round(calrec_total(torch.tensor(2.0), torch.tensor(1.265748), torch.tensor(1.311058), 0.125, -0.025).item(), 6)
    1.925442
    """
    return (1 - alpha - beta) * written + alpha * target_target + beta * user_target
