"""BERT4Rec's outputs with a bias, or of their own, beside plain formulas."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)

from lexirec.errors import InputError
from lexirec.models import create, load_model
from lexirec.query import Query
from lexirec.training.options import TrainingOptions
from tests.models.toys import markov

SMALL = {"embedding_dim": 8, "max_len": 8, "batch_size": 16, "dropout": 0.0, "num_heads": 2}


@pytest.mark.parametrize("loss", ["ce", "bce", "softmax"])
@pytest.mark.parametrize("output", ["bias", "own"])
def test_loss_and_gradients(output: str, loss: str) -> None:
    train = markov(0.8, users=20).train_set()
    own = {} if loss == "ce" else {"num_negs": 3}
    model = create("bert4rec", **SMALL, **own, loss=loss, output=output).fit(train, options=TrainingOptions(epochs=0, progress=False))
    named = dict(model.network.named_parameters())
    bias = named["output_bias" if output == "bias" else "output.bias"]
    assert bias.shape == (train.n_items,) and not bias.any()
    with torch.no_grad():
        bias.normal_()
    vectors = named["items.own.weight" if output == "bias" else "output.weight"]
    batch = next(iter(model.batches(train, np.random.default_rng(0))))
    value = model.loss(batch)
    gradients = torch.autograd.grad(value, [bias, vectors])

    rows = torch.arange(train.n_items) if batch.rows is None else batch.rows
    states = model.network.states(model.network.items(rows), batch.inputs, batch.masked, batch.layout, batch.at)
    scores = states @ vectors[rows].T + bias[rows]
    positive = scores.gather(1, batch.targets[:, None])
    if loss == "ce":
        expected = F.cross_entropy(scores, batch.targets)
    else:
        negative = scores.gather(1, batch.negatives)
        if loss == "softmax":
            expected = F.cross_entropy(torch.cat([positive, negative], 1), torch.zeros(len(positive), dtype=torch.int64))
        else:
            expected = F.softplus(-positive).mean() + F.softplus(negative).mean()
    torch.testing.assert_close(value, expected)
    for found, wanted in zip(gradients, torch.autograd.grad(expected, [bias, vectors]), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("output", ["bias", "own"])
def test_scores_are_inner_products_and_the_bias(output: str, tmp_path: Path) -> None:
    train = markov(0.8, users=20).train_set()
    model = create("bert4rec", **SMALL, output=output).fit(train, options=TrainingOptions(epochs=0, progress=False))
    queries = [Query(history=["i00", "i01"]), Query(user_id="u000")]
    before = model.score(queries)
    with torch.no_grad():
        dict(model.network.named_parameters())["output_bias" if output == "bias" else "output.bias"].copy_(torch.arange(train.n_items))
    model.refresh()
    torch.testing.assert_close(model.score(queries), before + torch.arange(train.n_items), atol=1e-4, rtol=1e-5)
    model.save(tmp_path / "run")
    torch.testing.assert_close(load_model(tmp_path / "run").score(queries), model.score(queries))
    if output == "own":  # what is read and what is ranked are apart
        with torch.no_grad():
            model.network.get_parameter("output.weight").zero_()
        model.refresh()
        assert torch.equal(model.score(queries), torch.arange(train.n_items).float().expand(2, -1))


@pytest.mark.parametrize("settings", [{"items": "text"}, {"items": "id+text"}, {"cosine": True, "tau": 0.1}])
def test_outputs_by_id_need_ids_and_inner_products(settings: dict[str, object]) -> None:
    with pytest.raises(InputError, match="output='bias' is learned by id"):
        create("bert4rec", output="bias", **settings)
