"""A Llama-shaped language model over packed batches, and a cache in which many continuations share one prefix.

token -> embedding -> (RMS norm, rotary causal attention, RMS norm, SwiGLU) x layers -> RMS norm -> product with the embeddings

Training sees packed rows (:mod:`lexirec.models.layers.sequence`): no padding outside attention. Writing keeps one cache per prompt, in
which the continuations form a tree: a token that several of them share is computed and kept once, and attention sees the prompt and a
continuation's own branch through a mask.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from numpy.typing import NDArray
from torch import Tensor, nn

from lexirec.models.layers.dropout import dropout
from lexirec.models.layers.sequence import Group, Layout
from lexirec.training.products import WHOLE

THETA = 10_000.0
"""Base of the rotary frequencies."""
EPS = 1e-6
"""Of the norms."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder: tokens, width, blocks, attention heads, width inside the feed-forward part."""

    vocabulary: int
    dim: int
    layers: int
    heads: int
    inner: int


def inner_width(dim: int) -> int:
    """Two thirds of ``4 dim``, up to the next multiple of 64: the three matrices of SwiGLU then hold about ``8 dim^2`` weights.

    >>> inner_width(256)
    704
    """
    return -(-8 * dim // (3 * 64)) * 64


def rotary(positions: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the positions, each ``(T, 1, 1, size / 2)``."""
    frequency = THETA ** (-torch.arange(0, size, 2, device=positions.device, dtype=torch.float32) / size)
    angle = (positions[:, None].float() * frequency)[:, None, None]
    return angle.cos(), angle.sin()


class _Rotate(torch.autograd.Function):
    """Turn queries and keys in place of a fresh array; the way back is the turn in the other direction."""

    @staticmethod
    def forward(ctx: Any, mixed: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        ctx.save_for_backward(cosine, sine)
        found = mixed.float() if mixed.dtype != torch.float32 else mixed.clone()
        _turn(found, cosine, sine)
        return found

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        cosine, sine = ctx.saved_tensors
        grad = grad.clone()
        _turn(grad, cosine, -sine)
        return grad, None, None


def _turn(heads: Tensor, cosine: Tensor, sine: Tensor) -> None:
    """Turn the first two of ``(T, 3, H, size)``, pairing the halves (Su et al., arXiv 2104.09864, in Llama's layout)."""
    first, second = heads[:, :2].chunk(2, -1)
    turned = first * sine
    first.mul_(cosine).addcmul_(second, sine, value=-1)
    second.mul_(cosine).add_(turned)


class _RMSNorm(torch.autograd.Function):
    """``x / sqrt(mean x^2 + eps) * weight`` over the last axis, in few passes over memory."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, eps: float) -> Tensor:
        scale = torch.linalg.vector_norm(rows, dim=-1, keepdim=True).square_().div_(rows.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(rows, weight, scale)
        return (rows * scale).mul_(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, scale = ctx.saved_tensors
        unit = rows * scale
        by_weight = torch.einsum("td,td->d", grad, unit)
        grad = grad * weight
        inner = torch.einsum("td,td->t", grad, unit)[:, None] / rows.shape[-1]
        return grad.addcmul_(unit, inner, value=-1).mul_(scale), by_weight, None


class RMSNorm(nn.Module):
    """Root mean square norm of rows ``(T, D)`` in float32 (Zhang and Sennrich, 2019)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, rows: Tensor) -> Tensor:
        found: Tensor = _RMSNorm.apply(rows.float(), self.weight, EPS)
        return found


class DecoderBlock(nn.Module):
    """``x = x + attention(norm(x)); x = x + down(silu(gate) * up)`` with ``gate, up`` of ``norm(x)``; no biases.

    Args:
        shape: sizes.
        dropout: on what attention and the feed-forward part add.
    """

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = shape.heads, dropout
        self.norm_attention = RMSNorm(shape.dim)
        self.norm_feed_forward = RMSNorm(shape.dim)
        self.query_key_value = nn.Linear(shape.dim, 3 * shape.dim, bias=False)
        self.out = nn.Linear(shape.dim, shape.dim, bias=False)
        self.gate_up = nn.Linear(shape.dim, 2 * shape.inner, bias=False)
        self.down = nn.Linear(shape.inner, shape.dim, bias=False)

    def project(self, rows: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """Queries, keys and values of rows ``(T, D)``: ``(T, 3, H, size)`` float32."""
        # Attention runs in float32: torch's fused one is several times slower backwards in bfloat16 on a CPU.
        mixed = self.query_key_value(self.norm_attention(rows)).view(len(rows), 3, self.heads, -1)
        found: Tensor = _Rotate.apply(mixed, *turn)
        return found

    def finish(self, rows: Tensor, attended: Tensor) -> Tensor:
        """Add what attention found, ``(T, D)``, and the feed-forward part."""
        rows = rows + dropout(self.out(attended), self.dropout, self.training)
        gate, up = self.gate_up(self.norm_feed_forward(rows)).chunk(2, -1)
        return rows + dropout(self.down(F.silu(gate) * up), self.dropout, self.training)

    def forward(self, rows: Tensor, layout: Layout, turn: tuple[Tensor, Tensor]) -> Tensor:
        packed = self.project(rows, turn)
        return self.finish(rows, torch.cat([group.packed(self.mix(group, packed)) for group in layout.groups]))

    def mix(self, group: Group, packed: Tensor) -> Tensor:
        """Attention within the sequences of a group, ``(T, 3, H, size) -> (n, L, D)``."""
        both = group.padded(packed.flatten(1)).view(group.size, group.length, 3, self.heads, -1)
        query, key, value = both.permute(2, 0, 3, 1, 4).unbind(0)
        with torch.autocast(packed.device.type, enabled=False):
            mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return mixed.transpose(1, 2).reshape(group.size, group.length, -1)


class Decoder(nn.Module):
    """The language model.

    Args:
        shape: sizes; ``dim`` must be a multiple of twice ``heads``.
        dropout: see :class:`DecoderBlock`.
    """

    def __init__(self, shape: Shape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.tokens = nn.Embedding(shape.vocabulary, shape.dim)
        self.blocks = nn.ModuleList([DecoderBlock(shape, dropout) for _ in range(shape.layers)])
        self.norm = RMSNorm(shape.dim)
        # Wide enough for attention to find its way soon (Nguyen and Salazar, arXiv 1910.05895); what writes into the residual stream is
        # smaller by sqrt(2 layers), as in GPT-2.
        std = (2 / (5 * shape.dim)) ** 0.5
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=std / (2 * shape.layers) ** 0.5 if name.endswith(("out.weight", "down.weight")) else std)

    @property
    def dim(self) -> int:
        return self.shape.dim

    @property
    def layers(self) -> list[DecoderBlock]:
        """The blocks in order."""
        return cast(list[DecoderBlock], list(self.blocks))

    @property
    def words(self) -> Tensor:
        """Output vectors of the tokens ``(V, D)``: the embeddings."""
        return self.tokens.weight

    def forward(self, tokens: Tensor, layout: Layout) -> Tensor:
        """States after the last norm, ``(T, D)`` float32, of packed tokens ``(T,)``."""
        wanted = layout.total
        if tokens.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            short = -wanted % WHOLE
            tokens, layout = F.pad(tokens, (0, short)), layout.with_single(short)
        rows = self.tokens(tokens)
        turn = rotary(torch.from_numpy(layout.steps).to(rows.device), self.shape.dim // self.shape.heads)
        for block in self.layers:
            rows = block(rows, layout, turn)
        found: Tensor = self.norm(rows[:wanted])
        return found

    def scores(self, states: Tensor) -> Tensor:
        """Scores of all tokens, ``(M, V)``."""
        return states @ self.words.T

    def start(self, tokens: Tensor, layout: Layout) -> tuple[Tensor, "Branches"]:
        """Read prompts: states of their last tokens ``(B, D)`` and the cache from which :class:`Branches` goes on."""
        return Branches.start(self, tokens, layout)


class Branches:
    """Keys and values of ``B`` prompts, and of the branches that grow from them.

    A prompt's keys are made and kept once, whatever number of branches looks at them. Each branch has a slot for the keys of its own
    tokens; where it forks, the first continuation goes on in the slot and the others get copies of it. All branches have the same depth.

    Attributes:
        prompt: keys and values of the prompts, ``(2 layers, B, H, longest, size)``.
        own: keys and values of the branches, ``(2 layers, slots, H, columns, size)``.
        slots: ``(R,)`` slot of each branch.
    """

    def __init__(self, model: Decoder, lengths: NDArray[np.int64], prompt: Tensor) -> None:
        self.model, self.lengths, self.prompt, self.depth = model, lengths, prompt, 0
        self.own = prompt.new_empty(len(prompt), 0, prompt.shape[2], 0, prompt.shape[4])
        self.slots = np.zeros(0, dtype=np.int64)
        self._look()

    def _look(self) -> None:
        """``(B, 1, 1, longest)``: nothing for tokens of the prompt, minus infinity behind its end."""
        beyond = np.arange(self.prompt.shape[3])[None, :] >= self.lengths[:, None]
        self.beyond = torch.from_numpy(np.where(beyond, -np.inf, 0.0).astype(np.float32)).to(self.prompt.device)[:, None, None]

    @classmethod
    def start(cls, model: Decoder, tokens: Tensor, layout: Layout) -> "tuple[Tensor, Branches]":
        """See :meth:`Decoder.start`."""
        shape, lengths = model.shape, layout.lengths
        size = shape.dim // shape.heads
        prompt = torch.zeros(2 * shape.layers, len(lengths), shape.heads, int(lengths.max()), size, device=tokens.device)
        rows = model.tokens(tokens)
        column = torch.from_numpy(layout.steps).to(rows.device)
        owner = torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths)).to(rows.device)
        turn = rotary(column, size)
        for number, block in enumerate(model.layers):
            packed = block.project(rows, turn)  # (T, 3, H, size)
            prompt[2 * number][owner, :, column] = packed[:, 1]
            prompt[2 * number + 1][owner, :, column] = packed[:, 2]
            rows = block.finish(rows, torch.cat([group.packed(block.mix(group, packed)) for group in layout.groups]))
        found: Tensor = model.norm(rows[layout.last])
        return found, cls(model, lengths, prompt)

    def extend(self, tokens: NDArray[np.int64], parents: NDArray[np.int64], prompts: NDArray[np.int64]) -> Tensor:
        """Grow by one token each, and give the states there, ``(R, D)``.

        Args:
            tokens: ``(R,)``.
            parents: ``(R,)`` branches of the last call (after ``start``: the prompts) that they follow, ascending.
            prompts: ``(R,)`` prompt of each, ascending.
        """
        device, shape = self.prompt.device, self.model.shape
        self._branch(parents)
        counts = np.bincount(prompts, minlength=len(self.lengths))
        cells = np.arange(len(prompts)) - (np.cumsum(counts) - counts)[prompts]
        owner, cell, slot = (torch.from_numpy(a).to(device) for a in (prompts, cells, self.slots))
        rows = self.model.tokens(torch.from_numpy(tokens).to(device))
        size, most, depth, used = shape.dim // shape.heads, int(counts.max()), self.depth, self.own.shape[1]
        turn = rotary(torch.from_numpy(self.lengths[prompts] + depth).to(device), size)
        asked = rows.new_zeros(len(self.lengths), most, shape.heads, size)
        own_asked = rows.new_zeros(used, shape.heads, 1, size)
        weights = rows.new_zeros(len(self.lengths), most, shape.heads, self.prompt.shape[3])
        own_weights = rows.new_zeros(used, shape.heads, 1, depth + 1)
        for number, block in enumerate(self.model.layers):
            query, key, value = block.project(rows, turn).unbind(1)
            keys, values = self.own[2 * number], self.own[2 * number + 1]
            keys[slot, :, depth], values[slot, :, depth] = key, value
            with torch.autocast(device.type, enabled=False):
                query = query * size**-0.5
                asked[owner, cell], own_asked[slot, :, 0] = query, query
                far = asked.transpose(1, 2) @ self.prompt[2 * number].transpose(2, 3) + self.beyond  # (B, H, C, longest)
                near = own_asked @ keys[:used, :, : depth + 1].transpose(2, 3)  # (slots, H, 1, depth + 1)
                both = torch.cat([far.transpose(1, 2)[owner, cell], near[slot, :, 0]], 2).softmax(2)
                weights[owner, cell] = both[:, :, : -depth - 1]
                own_weights[slot, :, 0] = both[:, :, -depth - 1 :]
                mixed = (weights.transpose(1, 2) @ self.prompt[2 * number + 1]).transpose(1, 2)[owner, cell]  # (R, H, size)
                mixed += (own_weights @ values[:used, :, : depth + 1])[slot, :, 0]
            rows = block.finish(rows, mixed.flatten(1))
        self.depth += 1
        found: Tensor = self.model.norm(rows)
        return found

    def keep(self, prompts: NDArray[np.int64]) -> None:
        """Go on with some prompts only, ascending; branches of other prompts must not be parents any more."""
        self.prompt = self.prompt.index_select(1, torch.from_numpy(prompts).to(self.prompt.device))
        self.lengths = self.lengths[prompts]
        self._look()

    def _branch(self, parents: NDArray[np.int64]) -> None:
        """Give every continuation a slot that holds what it follows, with room for one token more."""
        memory, depth = self.own, self.depth
        if not depth:
            self.slots = np.arange(len(parents))
            self.own = memory.new_empty(*_with(memory, len(parents), 16))
            return
        first = np.diff(parents, prepend=-1) > 0
        slots = np.empty(len(parents), dtype=np.int64)
        slots[first] = self.slots[parents[first]]
        unused = np.ones(memory.shape[1], dtype=bool)
        unused[slots[first]] = False
        free = np.flatnonzero(unused)
        wanted = len(parents) - int(first.sum())
        columns = memory.shape[3] + (16 if depth == memory.shape[3] else 0)
        if wanted > len(free) or columns > memory.shape[3]:
            grown = memory.new_empty(*_with(memory, max(memory.shape[1], len(parents)), columns))
            grown[:, : memory.shape[1], :, :depth] = memory[:, :, :, :depth]
            free = np.concatenate([free, np.arange(memory.shape[1], grown.shape[1])])
            self.own = memory = grown
        slots[~first] = free[:wanted]
        source, target = (torch.from_numpy(a).to(memory.device) for a in (self.slots[parents[~first]], slots[~first]))
        if wanted:
            memory[:, target, :, :depth] = memory[:, source, :, :depth]
        if 4 * len(slots) < 3 * memory.shape[1]:  # many have ended: move together
            self.own = memory.index_select(1, torch.from_numpy(slots).to(memory.device))
            slots = np.arange(len(slots))
        self.slots = slots


def _with(memory: Tensor, slots: int, columns: int) -> tuple[int, ...]:
    return memory.shape[0], slots, memory.shape[2], columns, memory.shape[4]


def like_llama(model: Decoder) -> dict[str, Any]:
    """Weights under the names of Hugging Face's ``LlamaForCausalLM`` of the same sizes, for use elsewhere and for comparison."""
    found: dict[str, Any] = {"model.embed_tokens.weight": model.tokens.weight, "model.norm.weight": model.norm.weight}
    for number, block in enumerate(model.layers):
        place = f"model.layers.{number}."
        query, key, value = block.query_key_value.weight.chunk(3)
        gate, up = block.gate_up.weight.chunk(2)
        found |= {
            f"{place}self_attn.q_proj.weight": query,
            f"{place}self_attn.k_proj.weight": key,
            f"{place}self_attn.v_proj.weight": value,
            f"{place}self_attn.o_proj.weight": block.out.weight,
            f"{place}mlp.gate_proj.weight": gate,
            f"{place}mlp.up_proj.weight": up,
            f"{place}mlp.down_proj.weight": block.down.weight,
            f"{place}input_layernorm.weight": block.norm_attention.weight,
            f"{place}post_attention_layernorm.weight": block.norm_feed_forward.weight,
        }
    return found


__all__ = ["Branches", "Decoder", "Shape", "inner_width", "like_llama"]
