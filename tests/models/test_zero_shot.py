"""Frozen encoders as recommenders, the random projection, and the packing of texts."""

import importlib.util
import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from lexirec import runs
from lexirec.data.dataset import Dataset, TrainSet
from lexirec.data.mixing import domain_part, mix
from lexirec.errors import InputError
from lexirec.evaluation.evaluate import evaluate
from lexirec.models import create, load_model, reading
from lexirec.models.textual import pack_texts, read_written, unpack_texts
from lexirec.query import Query
from lexirec.text import load_encoder
from lexirec.text.plain_writer import PlainWriter
from lexirec.text.profiles import Profiles, write_profiles
from lexirec.training.checkpoint import load_tensors
from tests.models.text_worlds import sports
from tests.text.shops import shop


@pytest.mark.parametrize("encoder", ["lsa", "random", "minilm"])
def test_every_encoder_finds_the_missing_item_of_a_sport(encoder: str, tmp_path: Path) -> None:
    split = sports(18).split("leave-one-out")
    model = create("zero-shot", encoder=encoder).fit(split.train)
    found = evaluate(model, split.train, split.test, seen=(split.valid,), metrics=["recall@5"], beyond=False)
    assert found.metrics["recall@5"] > 0.5  # five of 18 items by chance: 0.36 with the seen masked
    model.save(tmp_path / "saved")
    loaded = load_model(tmp_path / "saved")
    queries = [Query(user_id="u01"), Query(intent="swimming goggles")]
    assert torch.equal(loaded.score(queries), model.score(queries))
    assert model.training_result is None


def test_the_score_is_the_cosine_of_the_two_texts() -> None:
    train = sports().train_set()
    model = create("zero-shot", encoder="random", item_text="title").fit(train)
    encoder = model.reader.encoder
    text = model.person_texts([Query(user_id="u01")])[0]
    assert text == model.writer.user_texts([train.history(1)])[0]
    expected = encoder.encode([text]) @ encoder.encode(train.items["title"].to_list()).T
    np.testing.assert_allclose(model.score([Query(user_id="u01")]).numpy(), expected, atol=1e-6)


def test_a_wish_is_mixed_with_the_person() -> None:
    model = create("zero-shot", encoder="random").fit(sports().train_set())
    person, wish, both = model.encode_queries(
        [Query(user_id="u00"), Query(intent="swim cap"), Query(user_id="u00", intent="swim cap", alpha=0.25)]
    )
    torch.testing.assert_close(both, 0.75 * person + 0.25 * wish)
    default = model.encode_queries([Query(user_id="u00", profile="swim cap")])[0]
    torch.testing.assert_close(default, 0.5 * person + 0.5 * wish)


def test_held_out_events_never_reach_a_text() -> None:
    split = sports().split("leave-one-out")
    model = create("zero-shot", encoder="random").fit(split.train)
    for user in range(split.train.n_users):
        held = split.train.items["title"][int(split.test.item_index[user])]
        text = model.person_texts([Query(user_id=split.train.users.ids[user])])[0]
        recent = text.split("Recently chose")[1].split(".")[0]
        assert held not in recent


def test_the_seed_of_a_run_draws_the_projection_unless_the_name_does() -> None:
    from lexirec.training.options import TrainingOptions

    train = sports().train_set()
    vectors = [create("zero-shot", encoder="random").fit(train, options=TrainingOptions(seed=s)).encode_items() for s in (1, 1, 2)]
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.equal(vectors[0], vectors[2])
    named = [create("zero-shot", encoder="random?seed=5").fit(train, options=TrainingOptions(seed=s)).encode_items() for s in (1, 2)]
    assert torch.equal(named[0], named[1])


def test_versions_are_asked_one_by_one() -> None:
    train = sports().train_set()
    model = create("zero-shot", encoder="random", versions=2).fit(train)
    first = model.score([Query(user_id="u00")])
    model.use_version(1)
    assert not torch.equal(model.score([Query(user_id="u00")]), first)
    model.use_version(0)
    assert torch.equal(model.score([Query(user_id="u00")]), first)
    with pytest.raises(InputError, match="version 3"):
        model.use_version(3)


def test_random_projection_keeps_shared_words_and_nothing_else() -> None:
    encoder = load_encoder("random", dim=2048)
    same, shared, strange, alike = encoder.encode(["red lip stick", "red lip stick brush", "green garden hose", "red lip sticks"])
    assert same @ shared == pytest.approx(3 / np.sqrt(12), abs=0.08)
    assert abs(same @ strange) < 0.08
    assert same @ alike == pytest.approx(2 / 3, abs=0.08)  # a plural is another word
    again = load_encoder("random?dim=2048").encode(["red lip stick brush"])
    np.testing.assert_array_equal(again[0], shared)
    other = load_encoder("random?dim=2048&seed=1").encode(["red lip stick brush"])
    assert abs(float(other[0] @ shared)) < 0.08
    assert load_encoder(encoder.name).fingerprint == encoder.fingerprint
    with pytest.raises(InputError, match="takes no target"):
        load_encoder("random:x")


def test_a_part_of_a_mix_is_the_data_set_itself() -> None:
    a, b = sports(9).train_set(), sports(6, name="club").train_set()
    mixed, _ = mix([(a, None), (b, None)])
    for number, own in enumerate((a, b)):
        part = domain_part(mixed, number)
        assert part.content_hash == own.content_hash
        assert part.items.select("item_id", "title").equals(own.items.select("item_id", "title"))
        assert part.users.ids.to_list() == own.users.ids.to_list()
        assert (part.item_index == own.item_index).all()
        assert (part.offsets == own.offsets).all()


def test_a_part_of_a_mix_has_its_own_reviews_or_none() -> None:
    parts = [shop(reviews=True).train_set(), sports(6).train_set()]
    mixed, _ = mix([(part, None) for part in parts])
    told, silent = domain_part(mixed, 0), domain_part(mixed, 1)
    assert told.interactions.equals(parts[0].interactions.select("user_id", "item_id", "review"))
    assert silent.interactions.columns == ["user_id", "item_id"]


def test_blank_titles_are_read_as_a_placeholder() -> None:
    data = sports()
    items = data.items.with_columns(pl.when(pl.col("item_id") == "b0").then(None).otherwise(pl.col("title")).alias("title"))
    train = type(data)(data.interactions, items, name="blank").train_set()
    model = create("zero-shot", encoder="random", item_text="title").fit(train)
    assert model.item_texts[0][train.item_map.index(["b0"])[0]] == "unknown item"
    assert torch.isfinite(model.encode_items()).all()


def test_texts_are_packed_and_unpacked() -> None:
    texts = ["", "plain", "\x00\x1f separators\n", "多言語 🏀", "x" * 10_000]
    assert unpack_texts(pack_texts(texts)) == texts
    assert unpack_texts(pack_texts([])) == []


def test_the_table_asks_with_the_training_part_alone() -> None:
    file = Path(__file__).parents[2] / "benchmarks" / "zero_shot.py"
    spec = importlib.util.spec_from_file_location("zero_shot_table", file)
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    split = sports().split("leave-one-out")
    model = create("zero-shot", encoder="random").fit(split.train)
    asked: list[Query] = []
    encode = model.encode_queries
    model.encode_queries = lambda queries: asked.extend(queries) or encode(queries)
    parts = runs.Parts(split.train, split.valid, split.test, "sports", "leave-one-out")
    mean, users, each, _ = table.asked(model, parts, 2)
    assert len(each) == 2
    for query in asked:
        assert list(query.history) == split.train.item_map.name(split.train.history(split.train.users.position(query.user_id))).to_list()
    without, same, _, _ = table.asked(model, replace(parts, valid=None), 2)
    assert mean == without
    assert users.equals(same)
    told = evaluate(model, split.train, split.test, seen=(split.valid,), metrics=["ndcg@10"], beyond=False)
    assert told.metrics["ndcg@10"] != each[-1]["ndcg@10"]  # the validation events would be seen in the numbers


def test_the_table_refuses_a_run_that_knows_the_target_and_takes_a_folders_own_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(__file__).parents[2] / "benchmarks" / "zero_shot.py"
    spec = importlib.util.spec_from_file_location("zero_shot_table", file)
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    for name, users in (("here", 24), ("there", 18)):
        shop = sports(users, name=name)
        (tmp_path / name).mkdir()
        log = shop.interactions.with_columns(pl.col("user_id", "item_id").str.replace("^", name[0]))
        log.write_parquet(tmp_path / name / "interactions.parquet")
        shop.items.with_columns(pl.col("item_id").str.replace("^", name[0])).write_parquet(tmp_path / name / "items.parquet")
    experiment = runs.resolve("zero-shot", [tmp_path / "here"], sets=["encoder=random"], split="leave-one-out")
    runs.fit_run(experiment, tmp_path / "RUN", progress=False)
    part = runs.load_parts([tmp_path / "there"], {"split": "leave-one-out"}).train
    write_profiles(tmp_path / "profiles", PlainWriter(versions=1).write(part), part, split="leave-one-out")

    def asked(*more: str) -> None:
        fixed = ["--split", "leave-one-out", "--encoders", "random", "--names", "mine", "--threads", "1"]
        monkeypatch.setattr("sys.argv", ["zero_shot.py", str(tmp_path / "RUN"), *fixed, *more])
        table.main()

    with pytest.raises(InputError, match="mine was trained on events of here, so it isn't zero-shot there"):
        asked("--data", str(tmp_path / "here"), "--out", str(tmp_path / "none"))
    asked("--data", str(tmp_path / "there"), "--profiles", str(tmp_path / "profiles"), "--out", str(tmp_path / "out"))
    assert {path.name for path in (tmp_path / "out" / "there").iterdir()} == {"mine.json", "popularity.json", "random.json"}
    told = json.loads((tmp_path / "out" / "there" / "mine.json").read_text())
    assert len(told["runs"][0]["by_version"]) == 2
    assert told["trained_on"] == ["here"]


def test_another_catalogue_leaves_profiles_of_this_one_behind(tmp_path: Path) -> None:
    here, elsewhere = sports(12).train_set(), sports(6, name="elsewhere").train_set()
    write_profiles(tmp_path / "here", PlainWriter(versions=0).write(here), here, split="all")
    model = create("zero-shot", encoder="random", profiles=[str(tmp_path / "here")], versions=0).fit(here)
    other = model.transfer(elsewhere)
    assert other.config.profiles == () and model.config.profiles
    assert other.recommend("u03", k=1).height == 1


def test_only_what_is_drawn_depends_on_the_seed() -> None:
    drawn = {name: create("zero-shot", encoder=name).seeded for name in ("lsa", "minilm", "random", "random?seed=3")}
    assert drawn == {"lsa": False, "minilm": False, "random": True, "random?seed=3": False}
    assert [name for name in ("popularity", "lir", "mf-bpr") if create(name).seeded] == ["mf-bpr"]


def lettered(train: TrainSet, folder: Path, word: str, versions: int = 0, said: str | None = None) -> str:
    """A folder of profiles that all begin with ``word``; people's say ``said`` and nothing else, where it is given."""
    plain = PlainWriter(versions).write(train)
    items, users = (frame.with_columns(profile=pl.lit(f"{word} ") + pl.col("profile")) for frame in (plain.items, plain.users))
    if said is not None:
        users = users.with_columns(profile=pl.lit(said))
    write_profiles(folder, Profiles(items, users), train, replace=folder.exists())
    return str(folder)


def test_folders_of_profiles_that_are_gone_or_damaged_are_no_reason_to_read_others(tmp_path: Path) -> None:
    train, club, elsewhere = sports(9).train_set(), sports(6, name="club").train_set(), sports(3, name="elsewhere").train_set()
    folders = [lettered(train, tmp_path / "own", "gold"), lettered(club, tmp_path / "club", "silver")]
    mixed, _ = mix([(train, None), (club, None)])
    model = create("zero-shot", encoder="random", versions=0, profiles=folders).fit(mixed)
    model.save(tmp_path / "run")
    for asked in (model, load_model(tmp_path / "run")):
        assert asked.transfer(train).config.profiles == (folders[0],)
        assert asked.transfer(mixed).config.profiles == tuple(folders)
        assert asked.transfer(elsewhere).config.profiles == ()
    with (tmp_path / "own" / "users.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match=r"own/users.parquet was changed after it was written"):
        model.transfer(train)
    with pytest.raises(InputError, match=r"own/users.parquet was changed"):  # one that fits beside it is no reason either
        create("zero-shot", encoder="random", versions=0, profiles=folders).fit(mixed)
    assert model.transfer(club).config.profiles == (folders[1],)
    shutil.rmtree(tmp_path / "own")
    for asked in (model, load_model(tmp_path / "run")):
        with pytest.raises(InputError, match="own holds no profiles"):
            asked.transfer(train)
        assert asked.transfer(club).config.profiles == (folders[1],)  # known to be of other data, wherever it is now
        assert asked.transfer(elsewhere).config.profiles == ()
    (tmp_path / "own").mkdir()
    with pytest.raises(InputError, match="own holds no profiles"):
        model.transfer(elsewhere)


def test_a_run_is_asked_by_profiles_of_other_data(tmp_path: Path) -> None:
    """Zero-shot with profiles that were written after the training, from the command line."""
    from lexirec.cli.main import run

    for name, n in (("here", 9), ("there", 6)):
        data = sports(n, name=name)
        (tmp_path / name).mkdir()
        data.interactions.write_parquet(tmp_path / name / "interactions.parquet")
        data.items.write_parquet(tmp_path / name / "items.parquet")
    asked = [str(tmp_path / "there")]
    sets = ["encoder=random", "versions=0", "threads=1", "data.split=ratio"]
    runs.fit_run(runs.resolve("zero-shot", [tmp_path / "here"], sets=sets), tmp_path / "run", progress=False)
    train = runs.load_parts(asked, {"split": "ratio"}).train
    word = lettered(train, tmp_path / "gold", "unheard", said="unheard")
    plain, _ = runs.evaluate_run(tmp_path / "run", asked, progress=False)
    told, _ = runs.evaluate_run(tmp_path / "run", asked, profiles=[word], progress=False)
    assert told["profiles"] == [word] and "profiles" not in plain
    assert told["test"] != plain["test"]
    assert run(["evaluate", str(tmp_path / "run"), "--data", asked[0], "--profiles", word]) == 0
    own = lettered(runs.load_parts([str(tmp_path / "here")], {"split": "ratio"}).train, tmp_path / "own", "unheard", said="unheard")
    before, _ = runs.evaluate_run(tmp_path / "run", progress=False)
    again, _ = runs.evaluate_run(tmp_path / "run", profiles=[own], progress=False)  # of its own data too
    assert again["test"] != before["test"] and not again["zero_shot"]
    with pytest.raises(InputError, match="own was written from another training part"):
        runs.evaluate_run(tmp_path / "run", asked, profiles=[word, own], progress=False)
    with pytest.raises(InputError, match="popularity reads no profiles"):
        read_written(create("popularity"), [word], train)
    with pytest.warns(UserWarning, match="only the users' part"):
        read_written(create("zero-shot", item_text="title"), [word], train)


def test_a_folder_has_its_own_number_of_versions(tmp_path: Path) -> None:
    train, club = sports(9).train_set(), sports(6, name="club").train_set()
    few, many, some = (lettered(part, tmp_path / f"p{n}", "x", n) for part, n in ((train, 1), (train, 5), (club, 2)))
    mixed, _ = mix([(train, None), (club, None)])

    def versions(of: TrainSet, *folders: str) -> int:
        return create("zero-shot", encoder="random", profiles=folders).fit(of).profiles.n_versions

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert versions(train, few) == 1
        assert versions(train, many) == 5  # three are the plain writer's
    with pytest.warns(UserWarning, match=r"p1 has 1 rephrased versions .* 2 of .*p2; .* again with --versions 2"):
        assert versions(mixed, few, some) == 1
    with pytest.warns(UserWarning, match=r"p1 has 1 rephrased versions .* 3 of the plain writer; .* again with --versions 3"):
        assert versions(mixed, few) == 1
    with pytest.warns(UserWarning, match=r"versions = 3 of the plain writer are rephrased .* 5 of .*p5; .* set versions=5"):
        assert versions(mixed, many) == 3


def test_a_loaded_model_has_version_0(tmp_path: Path) -> None:
    train = sports(9).train_set()
    model = create("zero-shot", encoder="random", versions=1).fit(train)
    model.save(tmp_path / "run")
    loaded = load_model(tmp_path / "run")
    loaded.use_version(0)
    assert torch.equal(loaded.score([Query(user_id="u00")]), model.score([Query(user_id="u00")]))
    with pytest.raises(InputError, match=r"version 1 .* there are 0 to 0"):
        loaded.use_version(1)


def test_items_of_unknown_words_get_the_mean(tmp_path: Path) -> None:
    """One title that shares no word with the others, among enough items that a word of one of them counts for nothing."""
    rows = [f"{a} {b} for {c}" for a in ("red", "blue", "green") for b in ("soap", "brush", "towel", "oil") for c in "xyzuv"]
    log = pl.DataFrame({"user_id": ["u", "u", "v", "v"], "item_id": ["i0", "i1", "i1", "i2"], "timestamp": [1, 2, 1, 2]})
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(61)], "title": [*rows, "無線電話"]})
    train = Dataset(log, items).train_set()
    with pytest.warns(UserWarning, match=r"zero-shot knows nothing of the texts of 1 of 61 items \(item_id 'i60'\); they get the mean"):
        model = create("zero-shot", encoder="lsa", item_text="title", versions=0).fit(train)
    odd = torch.from_numpy(model.item_map.index(["i60"]))
    others = torch.ones(61, dtype=torch.bool).index_fill(0, odd, False)
    torch.testing.assert_close(model.encode_items()[odd[0]], model.encode_items()[others].mean(0))
    assert model.recommend("u", k=3)["answered_by"].to_list() == ["user"] * 3
    model.save(tmp_path / "run")
    assert torch.equal(load_model(tmp_path / "run").encode_items(), model.encode_items())
    new = pl.DataFrame({"item_id": ["n0", "n1"], "title": ["香水", "red oil"]})
    with pytest.warns(UserWarning, match=r"1 of 2 items \(item_id 'n0'\)"):
        model.add_items(new)
    assert model.encode_items().shape[0] == 63
    with pytest.raises(InputError, match=r"zero-shot knows nothing of the texts of 61 of 61 items"):
        create("zero-shot", item_text="title").fit(Dataset(log, items.with_columns(title=pl.lit("ของขวัญ"))).train_set())


def test_a_model_that_was_asked_by_another_version_is_saved_as_it_is_loaded(tmp_path: Path) -> None:
    train = sports(9).train_set()
    model = create("zero-shot", encoder="random", versions=2).fit(train)
    first = model.encode_items()
    model.use_version(2)
    second = model.score([Query(user_id="u00")])
    model.save(tmp_path / "run")
    assert model.version == 2 and torch.equal(model.score([Query(user_id="u00")]), second)
    loaded = load_model(tmp_path / "run")
    assert torch.equal(loaded.encode_items(), first)
    assert torch.equal(load_tensors(tmp_path / "run" / "vectors.safetensors")[0]["items"], first)
    model.use_version(0)
    assert torch.equal(loaded.score([Query(user_id="u00")]), model.score([Query(user_id="u00")]))


def test_an_explanation_leaves_out_what_has_no_weight() -> None:
    model = create("zero-shot", encoder="random").fit(sports().train_set())

    def kinds(**more: object) -> set[str]:
        return set(model.explain(Query(user_id="u00", intent="swim cap", **more), "b0")["kind"])

    assert kinds() == kinds(alpha=0.5) == {"words", "history", "attribute"}
    assert kinds(alpha=0.0) == {"history", "attribute"}
    assert kinds(alpha=1.0) == {"words"}
    for alpha in (None, 0.0, 1.0):  # nobody to weigh the words against, and no words
        assert set(model.explain(Query(intent="swim cap", alpha=alpha), "b0")["kind"]) == {"words"}
        assert set(model.explain(Query(user_id="u00", alpha=alpha), "b0")["kind"]) == {"history", "attribute"}
    whole = create("zero-shot", encoder="random", alpha=1.0).fit(sports().train_set())
    assert set(whole.explain(Query(user_id="u00", intent="swim cap"), "b0")["kind"]) == {"words"}


def test_people_and_wishes_are_remembered_by_the_reader_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = create("zero-shot", encoder="random?dim=8").fit(sports().train_set())
    monkeypatch.setattr(reading, "REMEMBERED_BYTES", 3 * 8 * 4)
    asked: list[str] = []
    encode = model.reader.encoder.encode
    monkeypatch.setattr(model.reader.encoder, "encode", lambda texts, progress=True: asked.extend(texts) or encode(texts, progress))
    for wish in ("a b", "c d", "e f", "a b", "g h", "a b", "c d"):
        model.score([Query(intent=wish)])
    assert asked == ["a b", "c d", "e f", "g h", "c d"]
    assert not model._known and len(model.reader._known) == 3
