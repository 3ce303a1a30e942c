"""CALRec's language model beside Hugging Face's Llama with the same weights, in one run, same texts, same threads.

    python benchmarks/speed/calrec.py --data DIR [--run RUN] [--threads 2]

DIR holds a data set with titles; without it the built-in simulated shop is taken. RUN is a trained CALRec (own language model): what it
writes repeats itself as trained models do. Without it fresh weights are timed, whose samples share next to nothing, the worst case.

writing: 32 samples for each of some histories, stopped at the end of text. Theirs is `generate` for one history at a time with the
32 samples as a batch and its cache; ours all histories together. Tokens are those of the samples, ends included.
training: steps of the whole loss (next item and both contrasts) over 64 users. Theirs is one padded batch for each tower; ours packed, at
once and in parts (gradient caching), in float32 and bfloat16. Tokens are real ones.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from common import interleaved, rows
from common import write as write_result
from transformers import LlamaConfig, LlamaForCausalLM

from lexirec.data.demo import simulated_shop
from lexirec.losses import calrec_total, target_contrast
from lexirec.models.calrec import CALRec
from lexirec.models.calrec.steps import Batch
from lexirec.models.calrec.writing import Sampling, write
from lexirec.models.layers.decoder import Decoder, like_llama
from lexirec.runs import load_parts
from lexirec.training.options import TrainingOptions

THEIR_WRITING = "transformers generate, one history at a time"
THEIR_TRAINING = "transformers, padded batches, float32"


def trained(args: argparse.Namespace) -> tuple[CALRec, Any]:
    if args.data is None:
        train, text = simulated_shop().train_set(), "Title=title,Category=categories?,Brand=brand?,Price=price?"
    else:
        train = load_parts([str(args.data)], {"split": "leave-one-out", "duplicates": "consecutive"}).train
        text = "Title=title,Category=main_category|categories?,Brand=brand?,Price=price?"
    if args.run is not None:
        model = CALRec.load(args.run)
        assert isinstance(model, CALRec)
        from lexirec.models.calrec.steps import Histories, Step

        model.histories = Histories(train, model.pieces.readable)
        model.step = Step(model._towers(), 0.5, 0.125, -0.025, 8192)
        return model, train
    model = CALRec(lm_epochs=0, text=text)
    model.fit(train, options=TrainingOptions(epochs=0, progress=False, threads=args.threads))
    return model, train


def llama(model: Decoder, end: int) -> LlamaForCausalLM:
    shape = model.shape
    config = LlamaConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.dim, intermediate_size=shape.inner, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, tie_word_embeddings=True, rms_norm_eps=1e-6, max_position_embeddings=2048, bos_token_id=None,
        eos_token_id=end, pad_token_id=end, rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    )  # fmt: skip
    other = LlamaForCausalLM(config)
    other.load_state_dict({name: value.detach().clone() for name, value in like_llama(model).items()}, strict=False)
    other.tie_weights()
    return other


def padded(packed: Any) -> tuple[torch.Tensor, torch.Tensor]:
    mask = np.arange(packed.lengths.max())[None, :] < packed.lengths[:, None]
    tokens = np.zeros(mask.shape, dtype=np.int64)
    tokens[mask] = packed.tokens
    return torch.from_numpy(tokens), torch.from_numpy(mask)


def their_step(theirs: LlamaForCausalLM, model: CALRec, batch: Batch) -> float:
    joint, alone = model.pieces.joined(batch.history, batch.counts, batch.targets), model.pieces.targets(batch.targets)
    tokens, mask = padded(joint)
    place, border = torch.arange(tokens.shape[1])[None, :], torch.from_numpy(joint.borders)[:, None]
    out = theirs(input_ids=tokens, attention_mask=mask.long(), output_hidden_states=True)
    states = out.hidden_states[-1].float()
    wanted = mask & (place >= border)
    labels = tokens.masked_fill(~wanted, -100)[:, 1:]
    each = F.cross_entropy(out.logits[:, :-1].float().transpose(1, 2), labels, reduction="none")
    written = (each.sum(1) / wanted.sum(1)).mean()

    def mean(rows: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        return (rows * which[:, :, None]).sum(1) / which.sum(1, keepdim=True)

    other, there = padded(alone)
    target = mean(theirs(input_ids=other, attention_mask=there.long(), output_hidden_states=True).hidden_states[-1].float(), there)
    after, user = mean(states, wanted), mean(states, mask & ~wanted)
    loss = calrec_total(written, target_contrast(after, target, 0.5), target_contrast(user, target, 0.5), 0.125, -0.025)
    theirs.zero_grad()
    loss.backward()
    return loss.item()


def our_step(model: CALRec, batch: Batch, budget: int, low: bool) -> float:
    model.step.budget = budget
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
        loss = model.step.loss(batch)
    model.network.zero_grad()
    loss.backward()
    return loss.item()


def writing(model: CALRec, histories: int, repeats: int) -> list[dict[str, Any]]:
    lm, end = model.lm, model.vocabulary.end
    assert isinstance(lm, Decoder)
    theirs = llama(lm, end).eval()
    rng = np.random.default_rng(0)
    users = rng.permutation(model.histories.users)[:histories]
    batch = model.histories.batch(users, np.zeros_like(users))
    prompts = model.pieces.joined(batch.history, batch.counts)
    starts = np.cumsum(prompts.lengths) - prompts.lengths
    spent: dict[str, list[float]] = {}

    def one_at_a_time() -> None:
        tokens = 0
        began = time.perf_counter()
        with torch.no_grad():
            for start, length in zip(starts, prompts.lengths, strict=True):
                ids = torch.from_numpy(prompts.tokens[start : start + length].astype(np.int64))[None]
                out = theirs.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    do_sample=True,
                    temperature=0.5,
                    top_k=0,
                    num_return_sequences=32,
                    max_new_tokens=80,
                )
                new = out[:, length:]
                tokens += int(((new == end).cumsum(1) - (new == end).long() == 0).sum())
        spent.setdefault(THEIR_WRITING, []).append(tokens / (time.perf_counter() - began))

    def together(name: str, low: bool) -> None:
        began = time.perf_counter()
        counted: list[int] = []
        from lexirec.models.calrec import writing as module

        original = module._collect

        def counting(samples: Any, *args: Any) -> Any:
            counted.append(int(((samples.tokens != end).sum(1) + 1).clip(max=80).sum()))
            return original(samples, *args)

        module._collect = counting
        try:
            write(lm, model.vocabulary, prompts, Sampling(32, 0.5, 80, 0, low))
        finally:
            module._collect = original
        spent.setdefault(name, []).append(sum(counted) / (time.perf_counter() - began))

    for _ in range(repeats + 1):
        one_at_a_time()
        together("lexirec, float32", False)
        together("lexirec, bfloat16", True)
    found = []
    for name, rates in spent.items():
        rate = float(np.median(rates[1:]))
        ratio = float(np.median([a / b for a, b in zip(rates[1:], spent[THEIR_WRITING][1:], strict=True)]))
        found.append({"what": f"write: {name}", "tokens/s": round(rate), f"times faster than {THEIR_WRITING}": round(ratio, 2)})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--histories", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["LEXIREC_CACHE"] = cache
        model, train = trained(args)
        found = writing(model, args.histories, args.repeats)
        for row in found:
            print(row, flush=True)
        batch = next(iter(model.batches(train, np.random.default_rng(0))))
        theirs = llama(model.lm, model.vocabulary.end).train()  # type: ignore[arg-type]
        model.network.train()
        jobs = {
            THEIR_TRAINING: lambda: their_step(theirs, model, batch),
            "lexirec, float32": lambda: our_step(model, batch, 10**9, False),
            "lexirec, bfloat16": lambda: our_step(model, batch, 10**9, True),
            "lexirec, bfloat16, in parts of 4,096 tokens": lambda: our_step(model, batch, 4096, True),
        }
        times = interleaved(jobs, args.repeats)
        joint, alone = model.pieces.joined(batch.history, batch.counts, batch.targets), model.pieces.targets(batch.targets)
        tokens = int(joint.lengths.sum() + alone.lengths.sum())
        table = rows(times, THEIR_TRAINING)
        for row in table:
            row["tokens/s"] = round(tokens / row["seconds"])
            row["what"] = f"step of {len(batch.users)} users: {row['what']}"
    name = "simulated shop" if args.data is None else args.data.name
    write_result("calrec", found + table, data=name, trained=args.run is not None)


if __name__ == "__main__":
    main()
