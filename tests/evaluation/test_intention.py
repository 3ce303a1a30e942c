"""Wishes without titles, and HR / NDCG over alpha."""

import json
import re
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pytest
import torch

from lexirec.errors import InputError
from lexirec.evaluation import evaluate, evaluate_intention, intention_queries
from lexirec.evaluation.intention import wishes
from tests.evaluation.worlds import heldout, random_world, world


@dataclass
class Wishing:
    """Mixes a unit user vector with a wish that points at the items whose colour it names."""

    train: object
    users: torch.Tensor
    items: torch.Tensor
    colours: torch.Tensor
    vector_scores: bool = True
    needs_history: bool = True
    asked: list = field(default_factory=list)

    def encode_items(self):
        return self.items

    def encode_queries(self, queries):
        self.asked += queries
        person = self.users[torch.from_numpy(self.train.users.index([q.user_id for q in queries]))]
        person = torch.nn.functional.normalize(person, dim=1)
        if queries[0].intent is None:
            return person
        wish = torch.stack([self.colours[int(re.search(r"colour(\d+)", q.intent)[1])] for q in queries])
        alpha = torch.tensor([q.alpha for q in queries])[:, None]
        return (1 - alpha) * person + alpha * wish


def coloured_world():
    """30 items of 10 colours; a wish names the colour."""
    train, valid, test = random_world(25, 30)
    items = train.items.with_columns(categories=pl.Series([[f"colour{n % 10}"] for n in range(30)]))
    train = type(train)(**{**train.__dict__, "items": items})
    draw = torch.Generator().manual_seed(0)
    colours = torch.nn.functional.normalize(torch.randn(10, 16, generator=draw), dim=1)
    vectors = torch.nn.functional.normalize(colours[torch.arange(30) % 10] + 0.05 * torch.randn(30, 16, generator=draw), dim=1)
    return train, valid, test, Wishing(train, torch.randn(25, 16, generator=draw), vectors, colours)


def test_the_wish_lifts_the_item_and_alpha_zero_is_the_plain_ranking():
    train, valid, test, model = coloured_world()
    found = evaluate_intention(model, train, test, seen=(valid,), k=5)
    assert [row["alpha"] for row in found.rows] == [0, 0.25, 0.5, 0.75, 1]
    assert found.n_queries == len(test)
    assert found.n_users == 25
    assert found.rows[-1]["hr@5"] == 1.0  # three items of a colour: all within five
    assert found.rows[0]["hr@5"] < 0.5
    # alpha = 0: one target at a time in the ranking of `evaluate`
    users, items = train.users.index(found.per_query["user_id"].to_list()), found_items(train, found)
    plain = [
        evaluate(model, train, heldout([user], [item]), seen=(valid,), metrics=["ndcg@5"]).metrics["ndcg@5"]
        for user, item in zip(users.tolist(), items, strict=True)
    ]
    np.testing.assert_allclose(found.per_query["ndcg@5 (alpha 0)"], plain, atol=1e-9)
    json.dumps(found.to_dict(), allow_nan=False)


def found_items(train, found):
    return train.item_map.index(found.per_query["item_id"].to_list()).tolist()


def test_each_query_asks_for_its_own_target_with_history_and_alpha():
    train, valid, test, model = coloured_world()
    found = evaluate_intention(model, train, test, alphas=(0.5,), seen=(valid,))
    assert len(model.asked) == found.n_queries
    for query, item in zip(model.asked, found_items(train, found), strict=True):
        assert query.alpha == 0.5
        assert query.intent == f"I am looking for something in colour{item % 10}."
        user = int(train.users.index([query.user_id])[0])
        known = [*train.history(user), *valid.item_index[valid.user_index == user]]
        assert list(query.history) == train.items["item_id"].gather(known).to_list()


def test_a_draw_of_users_repeats_with_its_seed():
    train, valid, test, model = coloured_world()
    one, two, other = (evaluate_intention(model, train, test, alphas=(0.5,), seen=(valid,), max_users=6, seed=s) for s in (0, 0, 1))
    assert one.n_users == 6
    assert one.per_query.equals(two.per_query)
    assert not one.per_query.equals(other.per_query)


def test_wishes_read_as_english_and_use_every_attribute():
    items = pl.DataFrame(
        {
            "item_id": ["1", "2", "3"],
            "title": ["Bahama Blues", "Heat", None],
            "brand": ["China Glaze", None, "Acme"],
            "year": [None, 1995, None],
            "categories": [["Beauty > Makeup > Nails > Nail Polish"], ["Action", "Crime"], None],
            "skin_type": [None, None, "dry"],
            "in_stock": [True, False, True],
            "weight": [0.1, 0.2, 0.3],
            "main_category": ["Beauty", "Action", None],
        }
    )
    assert wishes(items) == [
        "I am looking for something in Nail Polish, Nails, Makeup and Beauty by China Glaze.",
        "I am looking for something in Action and Crime from 1995.",
        "I am looking for something by Acme, skin type: dry.",
    ]
    assert wishes(items, ["brand"], "Anything {wish}, please")[0] == "Anything something by China Glaze, please"
    assert wishes(items, ["brand"]) == ["I am looking for something by China Glaze.", None, "I am looking for something by Acme."]
    assert wishes(items, ["brand", "year"], "{brand} of {year}")[1] == " of 1995"


def test_a_wish_never_holds_the_title():
    items = pl.DataFrame(
        {
            "item_id": [str(n) for n in range(6)],
            "title": ["Red Dwarf", "Drama", "Acme", "Alien (Director's Cut)", "the the", "Nine Lives"],
            "brand": ["BBC", "HBO", "ACME", "Fox", "Sony", "Nine"],
            "categories": [["Red", "Dwarf", "Comedy"], ["drama", "Series"], ["Tools"], ["Horror"], ["Music"], ["Lives"]],
            "description": [
                "In RED   DWARF a man wakes up.", "A drama about drama.", None,
                "Alien - Director's cut: longer!", "The  The the the band", None,
            ],
        }
    )  # fmt: skip
    made = wishes(items, ["brand", "categories", "description"])
    for title, text in zip(items["title"], made, strict=True):
        assert text is not None
        words, told = (" ".join(re.findall(r"\w+", part.casefold())) for part in (title, text))
        assert f" {words} " not in f" {told} ", (title, text)
    assert "HBO" in made[1]  # only what names the title went
    assert made[0] == "I am looking for something in Comedy by BBC, description: In a man wakes up."


def test_a_column_that_repeats_the_title_is_left_out():
    items = pl.DataFrame(
        {"item_id": ["1", "2"], "title": ["Blue Pen", "Red Ink"], "text": ["Blue Pen. Office", "Red ink. Art"], "brand": ["A", "B"]}
    )
    assert wishes(items) == ["I am looking for something by A.", "I am looking for something by B."]


def test_targets_without_attributes_are_skipped_and_counted():
    train, _, test = world(
        [("a", "i0", "train"), ("a", "i1", "test"), ("a", "i2", "test"), ("a", "i0", "test")],
        {f"i{n}": f"T{n}" for n in range(4)},
        brand=["A", "B", None, None],
    )
    found = intention_queries(train, test)
    assert (found.texts, found.skipped) == (["I am looking for something by A.", "I am looking for something by B."], 1)

    class Any:
        vector_scores = False

        def score(self, queries):
            return torch.zeros(len(queries), 4)

    result = evaluate_intention(Any(), train, test, alphas=(0.5,), k=1)
    assert (result.n_queries, result.skipped, result.repeat_targets) == (1, 1, 1)
    assert result.rows[0]["hr@1"] == pytest.approx(1 / 3)  # three candidates, all equal
    bare = world([("a", "i0", "train"), ("a", "i1", "test")], {"i0": "A", "i1": "B"})
    with pytest.raises(InputError, match=r"none of the 1 target items has an attribute .* add categories, brand"):
        intention_queries(bare[0], bare[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attributes": ["brnd"]}, r"'brnd', which the items don't have \(did you mean 'brand'\?\)"),
        ({"attributes": ["title"]}, "must not contain the title"),
        ({"template": "I want {brad}"}, r"has \{brad\} \(did you mean 'brand'\?\)"),
        ({"template": "something nice"}, r"has no \{wish\}"),
        ({"k": 0}, "k is 0"),
        ({"max_users": 0}, "max_users is 0"),
        ({"alphas": (2.0,)}, "alpha is 2.0"),
        ({"alphas": ()}, "alphas is empty"),
    ],
)
def test_bad_options_are_refused(options, message):
    train, _, test = world([("a", "i0", "train"), ("a", "i1", "test")], {"i0": "A", "i1": "B"}, brand=["X", "Y"])

    class Any:
        vector_scores = False

        def score(self, queries):
            return torch.zeros(len(queries), 2)

    with pytest.raises(InputError, match=message):
        evaluate_intention(Any(), train, test, **options)
