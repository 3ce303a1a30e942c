"""What every model promises, a check each."""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from lexirec.data.dataset import Dataset
from lexirec.data.messages import DataWarning
from lexirec.errors import InputError, NotFittedError, UnsupportedQueryError
from lexirec.evaluation.evaluate import evaluate
from lexirec.models.contract import Recommender
from lexirec.query import Basis, Query
from lexirec.testing.subject import Subject, cache_at, checkerboard
from lexirec.training.options import TrainingOptions


class ContractError(AssertionError):
    """A model does not keep what every model promises."""


Check = Callable[[Subject, Path], None]
"""A check of a subject, with an empty folder for what it writes.

Raises: ContractError or another AssertionError.
"""
CHECKS: dict[str, Check] = {}
"""All checks by name."""


def _hold(kept: Any, otherwise: str) -> None:
    if not kept:
        raise ContractError(otherwise)


@contextmanager
def _refused(kind: type[Exception], message: str, what: str) -> Iterator[None]:
    """What happens inside must raise ``kind`` with a message that the pattern is found in."""
    try:
        yield
    except kind as error:
        _hold(re.search(message, str(error)), f"{what} is refused with {str(error)!r}, which does not say {message!r}")
    else:
        raise ContractError(f"{what} is not refused; it should raise {kind.__name__} with {message!r}")


def _same(ours: torch.Tensor, theirs: torch.Tensor, what: str) -> None:
    _hold(torch.equal(ours, theirs), f"{what}: scores differ by up to {(ours - theirs).abs().max():.3g}")


def _parity(names: Any) -> list[int]:
    """0 for an item or user of even number, 1 for odd."""
    return [int(name[1:]) % 2 for name in names]


def _check(function: Check) -> Check:
    CHECKS[function.__name__.removeprefix("_")] = function
    return function


@_check
def _arguments_of_fit_are_checked_before_anything_is_done(subject: Subject, folder: Path) -> None:
    whole, train = checkerboard()[0], subject.train
    cases: list[tuple[tuple[Any, ...], str]] = [
        ((whole,), "train is of type Dataset"),
        ((train, train), "valid is of type TrainSet"),
        ((train, None, {"epochs": 1}), r"pass TrainingOptions\(\*\*options\)"),
        ((train, None, 3), "options is of type int"),
    ]
    with cache_at(f"{folder}/cache"):
        for arguments, message in cases:
            with _refused(InputError, message, f"fit{tuple(type(value).__name__ for value in arguments)}"):
                subject.new().fit(*arguments)
    _hold(not (folder / "cache").exists(), "a stage was run before the arguments were checked")


@_check
def _checkerboard_has_a_known_answer(subject: Subject, folder: Path) -> None:
    if not subject.personal:
        return
    found = subject.trained.recommend(subject.train.users.ids.to_list(), k=1)
    # the only unseen item of the own parity
    wrong = [row["user_id"] for row in found.iter_rows(named=True) if row["item_id"][1:] != row["user_id"][1:]]
    _hold(
        not wrong,
        f"{len(wrong)} of {found.height} users ({', '.join(wrong[:3])}) don't get the right item first; more epochs, a larger lr?",
    )


@_check
def _batch_equals_single(subject: Subject, folder: Path) -> None:
    queries = [Query(user_id=u) for u in subject.train.users.ids.to_list()]
    together = subject.trained.score(queries)
    alone = torch.cat([subject.trained.score([query]) for query in queries])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)  # a product of another shape sums in another order


@_check
def _second_fit_starts_anew(subject: Subject, folder: Path) -> None:
    model = subject.fitted(checkerboard(12)[0].train_set())
    model.fit(subject.train, options=TrainingOptions(**subject.options))
    query = [Query(user_id="u03")]
    _same(model.score(query), subject.trained.score(query), "after a fit on other data")


@_check
def _save_and_load_answer_alike(subject: Subject, folder: Path) -> None:
    model = subject.trained
    model.save(folder / "saved")
    loaded = subject.loaded(folder / "saved")
    _hold(loaded.config == model.config, f"loaded with the configuration {loaded.config}, saved with {model.config}")
    queries = [Query(user_id="u03"), Query(user_id="nobody")]
    if model.supports.history:
        queries.append(Query(history=["i01", "i05"]))
    if model.supports.intent:
        queries.append(Query(user_id="u03", intent="blue car", alpha=0.3))
    _same(loaded.score(queries), model.score(queries), "loaded")
    _hold(loaded.recommend(queries, k=3).equals(model.recommend(queries, k=3)), "the loaded model recommends otherwise")
    _hold(loaded.explain("u03", "i03").equals(model.explain("u03", "i03")), "the loaded model explains otherwise")
    with _refused(InputError, "exists already", "saving into a folder that exists"):
        model.save(folder / "saved")


@_check
def _resume_gives_the_same_bits(subject: Subject, folder: Path) -> None:
    if subject.trained.training_result is None:  # nothing is trained step by step
        return
    split = checkerboard()[0].split("leave-one-out")
    options = {"epochs": 3, "eval_every": 1, "patience": 9}
    whole = subject.fitted(split.train, split.valid, **options)
    interrupted = subject.new()
    loss: Any = interrupted.loss
    calls = 0

    def dies(batch: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls > 2 * interrupted.n_batches(split.train):  # in the last epoch
            raise KeyboardInterrupt
        return loss(batch)

    given = {**subject.options, **options, "folder": folder / "cut"}
    interrupted.loss = dies  # type: ignore[method-assign]
    try:
        interrupted.fit(split.train, split.valid, TrainingOptions(**given))
    except KeyboardInterrupt:
        pass
    else:
        raise ContractError(f"loss() was called {calls} times in 3 epochs of n_batches() = {interrupted.n_batches(split.train)} steps")
    resumed = subject.fitted(split.train, split.valid, **{**options, "folder": folder / "cut", "resume": True})
    query = [Query(user_id=u) for u in ("u03", "u04")]
    what = "interrupted in the third epoch and resumed"
    _same(resumed.score(query), whole.score(query), what)
    lines = [_without_time(model) for model in (resumed, whole)]  # the best weights, which score, may be of an epoch before
    _hold(lines[0] == lines[1], f"{what}: the epochs read {lines[0]}, and without the interruption {lines[1]}")


@_check
def _trains_in_bfloat16(subject: Subject, folder: Path) -> None:
    if subject.trained.training_result is None:
        return
    model = subject.fitted(epochs=1, precision="bf16")
    scores = model.score([Query(user_id="u03")])
    _hold(bool(torch.isfinite(scores).all()), "trained with precision='bf16', the model scores items with NaN or infinity")


def _without_time(model: Recommender) -> list[dict[str, Any]]:
    """What a training wrote down of each epoch, but how long it took."""
    found = model.training_result.history if model.training_result is not None else []
    return [{name: value for name, value in line.items() if name != "seconds"} for line in found]


@_check
def _unknown_person_gets_popularity_and_is_told(subject: Subject, folder: Path) -> None:
    model = subject.trained
    found = model.recommend([Query(user_id="nobody"), Query()], k=3)
    told = found["answered_by"].to_list()
    _hold(all(basis.startswith("popularity") for basis in told), f"a person of whom nothing is known is answered by {told[0]!r}")
    best = model.popularity[model.item_map.index(found["item_id"].to_list())]
    _hold(
        best.tolist() == np.sort(model.popularity)[::-1][:3].tolist() * 2,
        "a person of whom nothing is known gets other than the most popular",
    )


@_check
def _what_a_known_user_has_now_counts(subject: Subject, folder: Path) -> None:
    """A basket beside a user_id is what the answer is made from; the same as the stored history, it changes nothing."""
    model, train = subject.trained, subject.train
    stored = train.item_map.name(train.history(2)).to_list()
    same = Query(user_id="u02", history=stored)
    if subject.personal:
        for query in (same, Query(user_id="u02")):
            _hold(model.answered_by(query) == Basis(("user",)), f"{query} is answered by {model.answered_by(query)}, not the user")
    torch.testing.assert_close(model.score([same]), model.score([Query(user_id="u02")]))
    now = Query(user_id="u02", history=["i01", "i03"])  # of the other parity
    if not model.supports.history or not subject.personal:
        torch.testing.assert_close(model.score([now]), model.score([Query(user_id="u02")]))
        return
    _hold(model.answered_by(now) == Basis(("history",)), f"{now} is answered by {model.answered_by(now)}, not the history")
    torch.testing.assert_close(model.score([now]), model.score([Query(history=["i01", "i03"])]))
    shown = set(model.recommend(now, k=50)["item_id"]) & {*stored, "i01", "i03"}
    _hold(not shown, f"{sorted(shown)} are shown to a person who has them")  # what was bought before stays out of sight


@_check
def _histories(subject: Subject, folder: Path) -> None:
    model = subject.trained
    if not subject.personal:
        return
    if not model.supports.history:
        with _refused(UnsupportedQueryError, "history", "a history"):
            model.recommend(Query(history=["i01", "i03"]))
        return
    found = model.recommend(Query(history=["i01", "i03", "gone"]), k=4)
    _hold(all(_parity(found["item_id"])), f"the history i01, i03 is answered with {found['item_id'].to_list()}; odd items are right")
    _hold(not set(found["item_id"]) & {"i01", "i03"}, "the items of the history are shown")
    _hold(found["answered_by"][0] == "history", f"a history is answered by {found['answered_by'][0]!r}")
    nothing = model.recommend(Query(history=["gone"]), k=1)
    _hold(nothing["answered_by"][0] == "popularity", f"a history of unknown items is answered by {nothing['answered_by'][0]!r}")
    why = nothing["reason"][0]
    _hold(why == "no item of the history is in the catalogue", f"a history of unknown items is answered by popularity because {why!r}")
    empty = model.recommend(Query(history=[]), k=1)["answered_by"][0]
    _hold(empty.startswith("popularity"), f"an empty history is answered by {empty!r}")


@_check
def _words(subject: Subject, folder: Path) -> None:
    model = subject.trained
    if not model.supports.intent:
        with _refused(UnsupportedQueryError, "can't read words", "an intent"):
            model.recommend(Query(intent="blue car"))
        return
    found = model.recommend(Query(intent="blue car wheel"), k=5)
    _hold(all(_parity(found["item_id"])), f"'blue car wheel' is answered with {found['item_id'].to_list()}; odd items are right")
    for query, basis in (
        (Query(profile="likes red fruit"), "words"),
        (Query(user_id="u02", intent="blue car wheel"), "user+words"),
    ):
        by = model.recommend(query, k=1)["answered_by"][0]
        _hold(by == basis, f"{query} is answered by {by!r}, not {basis!r}")


@_check
def _new_items(subject: Subject, folder: Path) -> None:
    new = pl.DataFrame(
        {"item_id": ["n0", "n1"], "title": ["red apple fruit fresh", "blue car wheel new"], "categories": [["Food"], ["Vehicles"]]}
    )
    model = subject.fitted()
    if not model.supports.new_items:
        with _refused(UnsupportedQueryError, "by id only", "a new item"):
            model.add_items(new)
        return
    query = [Query(user_id="u04")]
    before = model.score(query)
    model.add_items(new)
    after = model.score(query)
    if model.vector_scores:  # what a search engine says of a text depends on how rare its words are in the whole catalogue
        torch.testing.assert_close(after[:, : before.shape[1]], before)
    if subject.personal:
        fruit, car = model.score(query, items=["n0", "n1"])[0].tolist()
        _hold(fruit > car, f"a friend of fruit gives a new fruit {fruit:.3g} and a new car {car:.3g}")
    with _refused(InputError, "exist already", "adding items that exist"):
        model.add_items(new)


@_check
def _candidates_and_seen(subject: Subject, folder: Path) -> None:
    model, train = subject.trained, subject.train

    def shown(k: int = 50, **limits: Any) -> list[str]:
        return model.recommend("u03", k=k, **limits)["item_id"].to_list()

    _hold(set(shown(9, candidates=["i02", "i04"])) == {"i02", "i04"}, "other items than the candidates are shown, or fewer")
    seen = set(train.item_map.name(train.history(3)).to_list())
    _hold(not set(shown(20)) & seen, "items that the user has are shown")
    _hold(len(shown(filter_seen=False)) == train.n_items, "not all items are shown with filter_seen=False")
    with _refused(InputError, r"none of 1 candidates is in the catalogue, such as 'i0' \(did you mean", "an unknown candidate alone"):
        shown(candidates=["i0"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _hold(shown(candidates={"i02", "soon"}) == ["i02"], "an unknown candidate beside a known one changes the answer")
    told = [str(warning.message) for warning in caught if issubclass(warning.category, DataWarning)]
    expected = "1 of 2 candidates are not in the catalogue ('soon'); they are left out"
    _hold(any(expected in message for message in told), f"an unknown candidate beside a known one: no DataWarning says {expected!r}")
    _hold(set(shown(9, candidates=["i02", "i04"], exclude=["i04", "gone"])) == {"i02"}, "an excluded candidate is shown")
    _hold("i04" not in shown(exclude={"i04"}), "an excluded item is shown")
    with _refused(InputError, "k = 0", "k = 0"):
        shown(0)


@_check
def _same_seed_same_answer_other_seed_other_weights(subject: Subject, folder: Path) -> None:
    if not subject.new().seeded:
        return
    query = [Query(user_id="u03")]
    _same(subject.fitted().score(query), subject.trained.score(query), "the same seed again")
    other = subject.fitted(seed=2).score(query)
    _hold(not torch.equal(other, subject.trained.score(query)), "another seed gives the same scores; is rng or torch's generator used?")


@_check
def _evaluation_and_recommend_ask_alike(subject: Subject, folder: Path) -> None:
    data, _ = checkerboard()
    split = data.split("leave-one-out")
    model = subject.fitted(split.train, split.valid, epochs=10)
    result = evaluate(model, split.train, split.test, seen=(split.valid,), metrics=["hr@3"])
    names = data.item_map.name
    histories = [[*names(split.train.history(k)), names(split.valid.item_index[k : k + 1])[0]] for k in range(data.n_users)]
    model.know_later([split.valid])
    reads = model.needs_history  # others are asked for the user that they learned
    lists = model.recommend([Query(user_id=u, history=h if reads else None) for u, h in zip(data.users.ids, histories, strict=True)], k=3)
    if result.optimistic == result.pessimistic:  # ties are settled in different ways
        hits = lists.group_by("query", maintain_order=True).agg("item_id")["item_id"].to_list()
        rate = float(np.mean([data.item_map.ids[int(split.test.item_index[k])] in row for k, row in enumerate(hits)]))
        found = result.metrics["hr@3"]
        _hold(abs(found - rate) <= 1e-6 * rate, f"hr@3 is {found:.4f} by evaluate() and {rate:.4f} by the lists of recommend()")


@_check
def _a_user_without_training_events_is_evaluated_by_popularity(subject: Subject, folder: Path) -> None:
    late = pl.DataFrame({"user_id": ["u99", "u99"], "item_id": ["i00", "i02"], "timestamp": [98, 99]})
    log = subject.train.interactions.select("user_id", "item_id", "timestamp").cast({"timestamp": pl.Int64})
    data = Dataset(pl.concat([log, late]), subject.train.items, name="late")
    rows = (data.interactions["user_id"] != "u99").to_numpy()
    model = subject.fitted(data.train_set(rows), epochs=1)
    result = evaluate(model, data.train_set(rows), data.heldout(~rows, "test"), metrics=["recall@20"])
    found = result.metrics["recall@20"]
    _hold(found == 1.0, f"recall@20 of a user without training events is {found} where all 20 items are listed")
    popular = model.score([Query(user_id="u99")])[0]
    _hold(
        torch.equal(popular, torch.from_numpy(model.popularity.astype(np.float32))),
        "a user without training events is not scored by popularity",
    )


@_check
def _unfitted_model_says_so(subject: Subject, folder: Path) -> None:
    with _refused(NotFittedError, "not fitted", "a question to an unfitted model"):
        subject.made().recommend("u")


@_check
def _unknown_setting_is_refused_with_the_nearest_name(subject: Subject, folder: Path) -> None:
    with _refused(InputError, "has no setting", "the setting 'nonsense'"):
        subject.made(nonsense=1)
    if "num_layers" in subject.kind.Config.model_fields:
        with _refused(InputError, "did you mean 'num_layers'", "the setting 'num_layer'"):
            subject.made(num_layer=1)


@_check
def _transfer(subject: Subject, folder: Path) -> None:
    data, items = checkerboard(14)
    target = Dataset(data.interactions, items, name="other").train_set()
    try:
        other = subject.trained.transfer(target)
    except UnsupportedQueryError as error:
        _hold(not subject.transfers, f"another data set is refused: {error}")
        _hold("zero-shot" in str(error), f"another data set is refused with {str(error)!r}, which does not say 'zero-shot'")
        return
    _hold(subject.transfers is not False, "another data set is not refused")
    _hold(other.item_map.ids.to_list() == items["item_id"].to_list(), "after the transfer the model has another catalogue")
    _hold(other.recommend("u03", k=1).height == 1, "after the transfer there is no answer")


__all__ = ["CHECKS", "Check", "ContractError"]
