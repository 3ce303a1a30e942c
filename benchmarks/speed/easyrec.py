"""A training step of EasyRec from `minilm` beside sentence-transformers' own training step with its in-batch-negatives loss, in one run,
same model, same examples, same texts, same threads.

    python benchmarks/speed/easyrec.py --data DIR

DIR is a data folder; without it the built-in simulated shop is taken. An example is (user text, positive item text, negative item text):
MultipleNegativesRankingLoss takes exactly such triplets and has the same 2 B candidates per user. The texts of the steps are drawn once and
given to both. Theirs is what its trainer does at each step (tokenise, three forward passes, loss, backward, clip, AdamW), in training mode:
with the model's own dropout, which is their default, and without it, as lexirec trains. Tokens are those of the triplets as drawn, at most
64 of a text, padding not counted and each text counted as often as it occurs, for both sides, so tokens per second compare times on equal
work. The step with masked words is lexirec's alone and shows what that loss adds.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from common import clocked, load_facts, mnrl_turns, training_rows, write

from lexirec.data.demo import simulated_shop
from lexirec.models.easyrec import EasyRec
from lexirec.runs import load_parts


def built(data: Path | None, **settings) -> EasyRec:
    train = simulated_shop().split("ratio").train if data is None else load_parts([str(data)], {"split": "ratio"}).train
    model = EasyRec(encoder="minilm", versions=3, **settings)
    model.remember(train)
    model.build(train, np.random.default_rng(0))
    model.total_steps = 1_000_000
    model.network.train()
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--micro-batch", type=int, default=0, help="texts with a graph at a time on our side; 0: all")
    parser.add_argument("--steps", type=int, default=1, help="steps of a turn")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    model = built(args.data, batch_size=args.batch_size, micro_batch=args.micro_batch or None)
    optimiser = model.optimiser()
    users = np.random.default_rng(0)
    picked = []
    for triplet in model.sampler.batches(users):
        if len(picked) < args.steps and len(triplet[0]) == args.batch_size:
            picked.append(triplet)
    drawn = [model.batch(*triplet, np.random.default_rng(k)) for k, triplet in enumerate(picked)]
    triplets = [texts_of(model, triplet, np.random.default_rng(k)) for k, triplet in enumerate(picked)]
    tokens = sum(int(batch.lengths[batch.rows].sum()) for batch in drawn)
    losses: dict[str, list[float]] = {}

    def our_turn(name: str, bf16: bool, masked: bool):
        def run() -> None:
            losses[name] = []
            for k, triplet in enumerate(picked):
                # As in training: what was tokenised once is looked up. The first turn, not counted, tokenises.
                batch = model.batch(*triplet, np.random.default_rng(k))
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                    loss = model.loss(batch) if masked else model.contrast(batch)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.network.parameters(), 1.0)
                optimiser.step()
                losses[name].append(loss.item())

        return run

    jobs = mnrl_turns(triplets, model.config.max_length, 5e-5, losses)
    ours = {
        "lexirec, contrast, float32": (False, False),
        "lexirec, contrast, bf16": (True, False),
        "lexirec, contrast and masked words, bf16": (True, True),
    }
    jobs |= {name: our_turn(name, *settings) for name, settings in ours.items()}
    load = load_facts(args.threads)
    times, processor = clocked(jobs, args.repeats)
    table = training_rows(times, processor, losses, tokens)
    write(
        "easyrec",
        table,
        data=args.data.name if args.data else "simulated shop",
        batch_size=args.batch_size,
        micro_batch=args.micro_batch or None,
        tokens_per_turn=tokens,
        texts_encoded_share=round(sum(len(b.offsets) - 1 for b in drawn) / sum(b.rows.size for b in drawn), 3),
        **load,
    )


def texts_of(model: EasyRec, triplet: tuple, rng: np.random.Generator) -> list[list[str]]:
    """The texts that :meth:`EasyRec.batch` draws with the same generator: of users, positives, negatives."""
    users, positives, negatives = triplet
    items = model.item_pool.draw(np.concatenate([positives, negatives]), rng)
    own = model.user_pool.draw(users, rng)
    found = [model.item_pool.texts[i] for i in items]
    return [[model.user_pool.texts[i] for i in own], found[: len(users)], found[len(users) :]]


if __name__ == "__main__":
    main()
