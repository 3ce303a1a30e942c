"""Wishes without titles, and HR / NDCG over alpha."""

import hashlib
import json
import re
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pytest
import torch

from lexirec.errors import InputError
from lexirec.evaluation import evaluate, evaluate_intention, intention_queries
from lexirec.evaluation.wishes import wishes
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
    assert [row["alpha"] for row in found.rows] == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
    assert (found.wishes, found.to_dict()["wishes"]) == ("built from attributes",) * 2
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


class Scoring:
    """The same answers without vectors: asked for each target and each alpha."""

    vector_scores = False

    def __init__(self, model):
        self.model = model

    def score(self, queries):
        return self.model.encode_queries(queries) @ self.model.encode_items().T


class Bent(Wishing):
    """Does more than mix."""

    def encode_queries(self, queries):
        return torch.tanh(3 * super().encode_queries(queries)).square()


def test_people_and_wishes_are_encoded_once_where_a_model_mixes():
    train, valid, test, model = coloured_world()
    mixed = evaluate_intention(model, train, test, seen=(valid,))
    assert len(model.asked) == 25 + 10 + 16  # people, colours, and a sample to see whether it mixes
    bent = Bent(**{**vars(model), "asked": []})
    found = evaluate_intention(bent, train, test, seen=(valid,))
    assert len(bent.asked) == 25 + 10 + 16 + 11 * found.n_queries
    for answer, one in ((mixed, model), (found, bent)):
        apart = evaluate_intention(Scoring(one), train, test, seen=(valid,))
        for left, right in zip(answer.rows, apart.rows, strict=True):
            assert left == pytest.approx(right, abs=1e-9)
    assert mixed.rows != found.rows


def test_each_query_asks_for_its_own_target_with_history_and_alpha():
    train, valid, test, model = coloured_world()
    found = evaluate_intention(Scoring(model), train, test, alphas=(0.5,), seen=(valid,))
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


def test_given_wishes_are_asked_in_place_of_built_ones(tmp_path):
    train, valid, test, model = coloured_world()
    user, item = train.users.ids[int(test.user_index[0])], train.item_map.ids[int(test.item_index[0])]
    # Everybody's words for half of the items name the colour, one person's own name another one.
    rows = [(f"i{n:03d}", None, f"in colour{n % 10}, please") for n in range(0, 30, 2) if f"i{n:03d}" != item]
    rows += [(item, None, f"any colour{test.item_index[0] % 10}"), (item, user, f"no, colour{(test.item_index[0] + 1) % 10}")]
    table = pl.DataFrame(rows, schema=["item_id", "user_id", "intent"], orient="row")
    found = evaluate_intention(model, train, test, seen=(valid,), alphas=(1.0,), wishes=table)
    asked = set(table["item_id"])
    assert set(found.per_query["item_id"]) <= asked
    told = [train.item_map.ids[i] in asked for i in test.item_index.tolist()]
    assert (found.n_queries, found.skipped) == (sum(told), len(told) - sum(told))
    assert found.skipped > 0
    own = (pl.col("user_id") == user) & (pl.col("item_id") == item)
    assert found.per_query.filter(own)["intent"].to_list() == [f"no, colour{(test.item_index[0] + 1) % 10}"]
    assert found.per_query.filter(own)["hr@5 (alpha 1)"].item() < 1.0  # the words count: they named another colour
    others = found.per_query.filter(~own)
    assert others["hr@5 (alpha 1)"].to_list() == [1.0] * others.height
    common = {name: text for name, whose, text in rows if whose is None}
    assert others["intent"].to_list() == [common[name] for name in others["item_id"]]
    assert list(found.wishes) == ["sha256"]
    assert "that was given" in found.protocol
    for name, write in (
        ("wishes.csv", table.write_csv), ("wishes.parquet", table.write_parquet), ("wishes.jsonl", table.write_ndjson),
        ("wishes.tsv", lambda path: table.write_csv(path, separator="\t")),
    ):  # fmt: skip
        path = tmp_path / name
        write(path)
        read = evaluate_intention(model, train, test, seen=(valid,), alphas=(1.0,), wishes=path)
        assert read.rows == found.rows
        assert read.wishes == {"file": name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    # Users are drawn among those who have a wish.
    few = evaluate_intention(model, train, test, seen=(valid,), alphas=(1.0,), wishes=table, max_users=3)
    assert few.n_users == 3
    alone = evaluate_intention(model, train, test, seen=(valid,), alphas=(1.0,), wishes=table.tail(1), max_users=3)
    assert (alone.n_users, alone.n_queries) == (1, 1)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"item_id": ["i1"], "intnt": ["a"]}, r"no column 'intent' \(did you mean 'intnt'\?\)"),
        ({"intent": ["a"]}, "no column 'item_id'"),
        ({"item_id": [], "intent": []}, "has no rows"),
        ({"item_id": ["i1", "i9"], "intent": ["a", "b"]}, "1 of 2 item_ids are unknown, such as 'i9'"),
        ({"item_id": ["i1"], "user_id": ["b"], "intent": ["a"]}, "1 of 1 user_ids are unknown, such as 'b'"),
        ({"item_id": ["i1", "i0"], "intent": ["a", "  "]}, "1 of 2 intents are empty, the first in row 2"),
        ({"item_id": ["i1"], "intent": [None]}, "store words|1 of 1 intents are empty"),
        ({"item_id": ["i1"], "intent": [5]}, "intent is of type Int64; store words"),
        ({"item_id": ["i1", "i1"], "intent": ["a", "b"]}, "item_id 'i1' has two intents; give one each"),
        ({"item_id": ["i1", "i1"], "user_id": ["a", "a"], "intent": ["a", "b"]}, "'i1' has two intents for user_id 'a'"),
        ({"item_id": ["i0"], "intent": ["a"]}, "none of the 1 targets of the test part has a wish"),
    ],
)
def test_bad_wishes_are_refused(table, message):
    train, _, test = world([("a", "i0", "train"), ("a", "i1", "test")], {"i0": "A", "i1": "B"}, brand=["X", "Y"])
    with pytest.raises(InputError, match=message):
        evaluate_intention(Scoring(None), train, test, wishes=pl.DataFrame(table))
    with pytest.raises(InputError, match="no effect on wishes that are given"):
        evaluate_intention(Scoring(None), train, test, wishes=pl.DataFrame(table), attributes=["brand"])


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
