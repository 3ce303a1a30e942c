"""LLMEmb's second stage, and LLM2X: the conformance list, ablations, teachers."""

import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from lexirec.data.dataset import Dataset, TrainSet
from lexirec.errors import InputError
from lexirec.losses import soft_clip, symmetric_infonce
from lexirec.models import create, load_model
from lexirec.models.layers.contrast import counted_infonce, counted_soft_clip
from lexirec.models.llmemb import LLMEmb
from lexirec.query import Query
from lexirec.text.cache import default_folder
from lexirec.text.encoders.file import write_vectors
from lexirec.text.plain_writer import PlainWriter
from lexirec.text.profiles import Profiles, write_profiles
from lexirec.text.prompts import wish_prompt
from lexirec.training.checkpoint import load_tensors
from lexirec.training.options import TrainingOptions
from lexirec.training.tuned_encoder import tuned_name
from tests.models.toys import markov

SMALL = {"embedding_dim": 8, "max_len": 8, "batch_size": 32, "scft": None, "encoder": "lsa", "dropout": 0.0}
QUIET = {"progress": False, "threads": 1}
BACKBONES = ["sasrec", "bert4rec", "gru4rec"]


def built(epochs: int = 0, **settings: object) -> LLMEmb:
    model = create("llmemb", **{**SMALL, **settings})
    model.fit(markov(0.8).split("leave-one-out").train, options=TrainingOptions(epochs=epochs, **QUIET))
    assert isinstance(model, LLMEmb)
    return model


def a_batch(model: LLMEmb):
    return next(iter(model.batches(markov(0.8).split("leave-one-out").train, np.random.default_rng(0))))


@pytest.mark.parametrize(("counted", "plain_one"), [(counted_soft_clip, soft_clip), (counted_infonce, symmetric_infonce)])
@pytest.mark.parametrize(("tau", "scale"), [(1.0, 1.0), (2.0, 1.0), (3.0, 1.0), (2.0, 12.0), (0.05, 1.0)])
def test_counted_contrast_equals_the_plain_one_with_repeated_rows(counted: Any, plain_one: Any, tau: float, scale: float) -> None:
    torch.manual_seed(0)
    counts = torch.tensor([1, 3, 1, 2, 1])
    again = torch.repeat_interleave(torch.arange(5), counts)
    found = []
    for function in (lambda x, y: counted(x, y, counts, tau), lambda x, y: plain_one(x[again], y[again], tau)):
        x, y = (torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
        x, y = (scale * x).requires_grad_(), (scale * y).requires_grad_()
        value = function(x, y)
        (2 * value).backward()
        found.append((value.detach(), x.grad, y.grad))
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, atol=3e-5, rtol=1e-4, check_dtype=False)  # the plain one computes in float32


def test_numbers_of_the_conformance_list() -> None:
    ones = torch.ones(2, dtype=torch.int64)
    for tau, value in ((1.0, 0.582203), (2.0, 0.533678), (3.0, 0.556114)):
        assert counted_soft_clip(torch.eye(2), torch.eye(2), ones, tau).item() == pytest.approx(value, abs=1e-6)


def test_total_of_the_conformance_list() -> None:
    """Zero logits and identity as teacher and student: binary cross entropy + .01 x alignment."""
    log = pl.DataFrame({"user_id": list("uuvv"), "item_id": list("xaxb"), "timestamp": range(4)})
    items = pl.DataFrame({"item_id": list("abxy"), "title": ["red soap", "blue brush", "green lamp", "black harp"]})
    train = Dataset(log, items).train_set()
    settings = {**SMALL, "embedding_dim": 2, "adapter": "none", "transform": "pca", "text_dim": 2, "freeze_text": False}
    model = create("llmemb", **settings).fit(train, options=TrainingOptions(epochs=0, **QUIET))
    assert isinstance(model, LLMEmb) and model.teacher_table is not None and model.teacher_table.shape == (4, 2)
    a, b = train.item_map.index(["a", "b"])
    with torch.no_grad():
        for table in (model.network.items.text, model.teacher_table):
            table[a], table[b] = torch.eye(2)
        model.network.body.norm.weight.zero_()  # the last norm: states, and with them all scores, are zero
        model.network.body.norm.bias.zero_()
    (batch,) = model.batches(train, np.random.default_rng(0))
    assert sorted(batch.rows[batch.targets].tolist()) == sorted([a, b])
    assert model.loss(batch).item() == pytest.approx(1.391631, abs=1e-6)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_step_moves_adapter_and_encoder_and_nothing_frozen(backbone: str) -> None:
    model = built(backbone=backbone)
    text, teacher = model.network.items.text.clone(), model.teacher_table.clone()
    before = {name: p.detach().clone() for name, p in model.network.named_parameters()}
    optimiser = model.optimiser()
    model.loss(a_batch(model)).backward()
    optimiser.step()
    assert torch.equal(model.network.items.text, text) and torch.equal(model.teacher_table, teacher)
    moved = {name for name, p in model.network.named_parameters() if not torch.equal(p, before[name])}
    still = set(before) - moved
    assert not still, still
    if backbone == "bert4rec":
        assert "mask" in moved
    if backbone != "gru4rec":
        assert any("positions" in name for name in moved)


def test_without_weight_the_alignment_has_no_gradient() -> None:
    plain, without = built(teacher=None), built(align_weight=0.0)
    assert without.teacher_table is None
    grads = []
    for model in (plain, without):
        model.loss(a_batch(model)).backward()
        grads.append([p.grad for p in model.network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_weight_zero_beside_a_teacher_gives_the_plain_gradient() -> None:
    model = built()
    teacher, batch = model.teacher_table, a_batch(model)
    assert teacher is not None

    def gradients(table: torch.Tensor | None, weight: float) -> list[torch.Tensor]:
        model.teacher_table, model.config = table, model.config.model_copy(update={"align_weight": weight})
        model.network.zero_grad()
        model.loss(batch).backward()
        return [parameter.grad.clone() for parameter in model.network.parameters()]

    plain, zero, aligned = gradients(None, 0.01), gradients(teacher, 0.0), gradients(teacher, 0.01)
    assert all(torch.equal(a, b) for a, b in zip(plain, zero, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(plain, aligned, strict=True))


def test_an_alignment_that_takes_gigabytes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lexirec.models.llmemb.MUCH", 6 * 4 * 12**2 - 1)
    with pytest.warns(UserWarning, match="a step aligns up to 12 items, each with each: about 0 GB; set align_cap"):
        built()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        built(align_cap=4)
        built(teacher=None)


def test_alignment_is_added_at_its_weight() -> None:
    model, weighted = built(align_weight=0.01), built(align_weight=1.0)
    batch, again = a_batch(model), a_batch(weighted)
    table, other = model.network.items(batch.rows), weighted.network.items(again.rows)
    items = batch.rows[batch.targets]
    plain = soft_clip(model.teacher_table[items], table[batch.targets], 2.0)  # with all duplicates, as in the code
    torch.testing.assert_close(model.extra_loss(table, batch), 0.01 * plain)
    torch.testing.assert_close(weighted.extra_loss(other, again), plain)
    places, once = batch.targets, batch.targets.unique()
    assert len(once) < len(places)

    def found(**settings: object) -> torch.Tensor:
        changed = built(**settings)
        batch = a_batch(changed)
        torch.manual_seed(3)
        return changed.extra_loss(changed.network.items(batch.rows), batch) / 0.01

    def of(places: torch.Tensor, function=soft_clip) -> torch.Tensor:
        return function(model.teacher_table[batch.rows[places]], table[places], 2.0)

    torch.testing.assert_close(found(align_unique=True), of(once))
    torch.testing.assert_close(found(align_loss="infonce"), of(places, symmetric_infonce))
    torch.testing.assert_close(found(align_loss="infonce", align_unique=True), of(once, symmetric_infonce))
    torch.manual_seed(3)
    some = places[torch.randperm(len(places))[:5]]
    torch.testing.assert_close(found(align_cap=5), of(some))
    torch.testing.assert_close(found(align_cap=len(places)), of(places))
    unit = built(cosine=True)
    batch = a_batch(unit)
    rows = torch.nn.functional.normalize(unit.network.items(batch.rows), dim=1)[batch.targets]
    torch.testing.assert_close(unit.teacher_table.norm(dim=1), torch.ones(unit.n_items))
    wanted = 0.01 * soft_clip(unit.teacher_table[batch.rows[batch.targets]], rows, 2.0)
    torch.testing.assert_close(unit.extra_loss(unit.network.items(batch.rows), batch), wanted)


def test_last_item_is_zeroed_only_on_demand() -> None:
    """Official SASRec and GRU4Rec lose the last item's vector: 0,1,2,0,3 for three items where 0,1,2,3,0 is right."""
    right, official = built().network.items.text, built(zero_last_item=True).network.items.text
    assert right[-1].abs().sum() > 0 and official[-1].abs().sum() == 0
    assert torch.equal(right[:-1], official[:-1])


@pytest.mark.parametrize("backbone", BACKBONES)
def test_kept_table_equals_the_adapter_on_the_fly(backbone: str, tmp_path: Path) -> None:
    model = built(epochs=2, backbone=backbone)
    on_the_fly = model.network.items().detach()
    torch.testing.assert_close(model.encode_items(), on_the_fly, atol=1e-5, rtol=1e-5)
    model.save(tmp_path / "saved")
    loaded = load_model(tmp_path / "saved")
    assert loaded.network.items.text is None  # neither text vectors nor a language model are needed
    history = [Query(history=model.item_map.ids.to_list()[:3])]
    torch.testing.assert_close(loaded.score(history), model.score(history), atol=1e-5, rtol=1e-5)


def test_without_adapter_the_components_are_the_vectors() -> None:
    model = built(adapter="none", transform="pca", text_dim=8)
    assert model.network.items.adapter is None
    torch.testing.assert_close(model.encode_items(), model.network.items.text)
    assert model.teacher_table is None  # nothing about them is learned, so none is trained
    trained = built(adapter="none", transform="pca", text_dim=8, freeze_text=False)
    assert trained.teacher_table is not None
    assert "items.text" in dict(trained.network.named_parameters())
    with pytest.raises(InputError, match="embedding_dim"):
        built(adapter="none", embedding_dim=6)
    with pytest.raises(InputError, match="dimensions are wanted"):
        built(transform="pca", text_dim=400)


def test_a_wrong_width_is_told_before_any_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    class TrainedError(Exception):
        pass

    def train(*args: object, **kwargs: object) -> None:
        raise TrainedError

    monkeypatch.setattr("lexirec.training.finetune.finetune_items", train)  # stage 1
    monkeypatch.setattr("lexirec.models.stages.train_plain", train)  # the teacher
    stage = {"scft": {"steps": 1, "batch_size": 6}}
    for encoder in ({**stage, "encoder": "minilm"}, {**stage, "encoder": "join:minilm|lsa?dim=3"}, {"encoder": "lsa"}):
        with pytest.raises(InputError, match="400 dimensions are wanted of text vectors that have"):
            built(**encoder, transform="pca", text_dim=400)
        with pytest.raises(InputError, match=r"20 principal directions can't be fitted on 12 items|20 dimensions are wanted"):
            built(**encoder, transform="pca", text_dim=20)
        with pytest.raises(InputError, match="where embedding_dim is 6"):
            built(**encoder, adapter="none", embedding_dim=6)
        with pytest.raises(TrainedError):
            built(**encoder, transform="pca", text_dim=8, adapter="none", freeze_text=False)
    with pytest.raises(TrainedError):
        built(encoder="join:minilm|lsa?dim=3", **stage, adapter="none", freeze_text=False, embedding_dim=387)


def test_prompts_longer_than_the_encoder_reads_are_told(tiny: str) -> None:
    with pytest.warns(UserWarning, match=r"12 of 12 prompts fill max_length=6 tokens \(item_id 'i00'"):
        built(encoder=f"{tiny}&max_length=6", teacher=None)
    with pytest.warns(UserWarning, match="12 of 12 prompts fill max_length=6 tokens"):
        built(encoder=f"join:lsa?dim=3|{tiny}&max_length=6", teacher=None)
    for _ in range(2):  # the second time the kept encoder is taken up
        with pytest.warns(UserWarning, match="12 of 12 prompts fill max_length=6 tokens"):
            built(encoder=tiny, teacher=None, scft={"steps": 1, "batch_size": 6, "max_length": 6})


def test_teachers(tmp_path: Path) -> None:
    data = markov(0.8)
    train = data.split("leave-one-out").train
    teacher = create("mf-bpr", embedding_dim=8).fit(train, options=TrainingOptions(epochs=1, **QUIET))
    teacher.save(tmp_path / "teacher")
    model = built(teacher=str(tmp_path / "teacher"))
    torch.testing.assert_close(model.teacher_table, teacher.encode_items())
    other = markov(0.8, items=11)
    create("mf-bpr", embedding_dim=8).fit(other.train_set(), options=TrainingOptions(epochs=1, **QUIET)).save(tmp_path / "other")
    with pytest.raises(InputError, match="unknown to it"):
        built(teacher=str(tmp_path / "other"))
    create("mf-bpr", embedding_dim=6).fit(train, options=TrainingOptions(epochs=1, **QUIET)).save(tmp_path / "narrow")
    with pytest.raises(InputError, match="6 dimensions"):
        built(teacher=str(tmp_path / "narrow"))
    for name, lacks in (("popularity", "one number an item"), ("lir", "no item vectors")):
        create(name).fit(train, options=TrainingOptions(**QUIET)).save(tmp_path / name)
        with pytest.raises(InputError, match=f"teacher = '.*{name}' is a {name}, which has {lacks}"):
            built(teacher=str(tmp_path / name))


@pytest.mark.parametrize("output", ["bias", "own"])
def test_a_teacher_gives_what_it_reads(output: str, tmp_path: Path) -> None:
    """Not what it holds states against, which has a number for each item's popularity beside it."""
    train = markov(0.8).split("leave-one-out").train
    teacher = create("bert4rec", embedding_dim=8, num_heads=1, max_len=8, output=output).fit(
        train, options=TrainingOptions(epochs=1, **QUIET)
    )
    assert teacher.encode_items().shape[1] == 9
    teacher.save(tmp_path / "teacher")
    assert torch.equal(built(teacher=str(tmp_path / "teacher")).teacher_table, teacher.network.items.own.weight.detach())


def test_teacher_and_student_are_compared_alike(tmp_path: Path) -> None:
    train = markov(0.8).split("leave-one-out").train
    create("sasrec", embedding_dim=8, cosine=True, tau=0.1).fit(train, options=TrainingOptions(epochs=1, **QUIET)).save(tmp_path / "unit")
    with pytest.warns(UserWarning, match="compares items by cosine"):
        built(teacher=str(tmp_path / "unit"))
    create("mf-bpr", embedding_dim=8).fit(train, options=TrainingOptions(epochs=1, **QUIET)).save(tmp_path / "free")
    model = built(teacher=str(tmp_path / "free"), cosine=True, tau=0.1, align_tau=0.1, align_unique=True, align_weight=1.0)
    batch = a_batch(model)
    assert model.teacher_table is not None
    places = batch.targets.unique()
    items = places if batch.rows is None else batch.rows[places]
    unit = torch.nn.functional.normalize
    expected = soft_clip(unit(model.teacher_table[items], dim=1), unit(model.network.items(items), dim=1), 0.1)
    torch.testing.assert_close(model.extra_loss(model.network.items(batch.rows), batch), expected)


def test_a_damaged_result_of_a_stage_is_made_again() -> None:
    first = built(1)
    (kept,) = Path(os.environ["LEXIREC_CACHE"], "stages").iterdir()
    kept.write_bytes(kept.read_bytes()[:200])
    with pytest.warns(UserWarning, match="is damaged or can't be read, and is made again"):
        again = built(1)
    assert torch.equal(first.teacher_table, again.teacher_table) and set(load_tensors(kept)[0]) == {"result"}


def test_columns_are_checked_before_anything_is_read() -> None:
    assert create("llmemb", columns="title, brand").config.columns == ("title", "brand")
    with pytest.raises(InputError, match=r"no column 'titel' \(did you mean 'title'\?\)"):
        built(columns="titel")


def test_a_tuned_encoder_is_found_from_another_folder(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(tiny.removeprefix("hf:").partition("?")[0])
    monkeypatch.chdir(folder.parent)
    built(teacher=None, encoder=f"hf:{folder.name}?pooling=mean").save(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    load_model(tmp_path / "run").score([Query(intent="a drum")])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An encoder that stage 1 tunes in no time."""
    from tests.text.worlds import save_model

    return f"hf:{save_model(tmp_path_factory.mktemp('tiny'), 'bert')}?pooling=mean"


@pytest.mark.parametrize(("stage", "step"), [("scft", 6), ("sasrec", 6), ("llmemb", 6)])
def test_a_training_that_was_cut_in_any_stage_ends_as_if_it_was_not(
    stage: str, step: int, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stage 1, the teacher, stage 2: two steps an epoch, killed in the second step of the third."""
    from lexirec.models.sequential import SequentialRecommender
    from lexirec.training.scft import Scft

    split = markov(0.8).split("leave-one-out")
    settings = {**SMALL, "encoder": tiny, "scft": {"epochs": 4, "batch_size": 6}, "dropout": 0.2}
    steps = {"scft": 0, "sasrec": 0, "llmemb": 0}
    kill: dict[str, int] = {}

    def counted(kind: type, name: str | None) -> None:
        real = kind.loss  # type: ignore[attr-defined]

        def loss(self, batch):
            key = name or self.name
            steps[key] += 1
            if steps[key] == kill.get(key):
                raise KeyboardInterrupt
            return real(self, batch)

        monkeypatch.setattr(kind, "loss", loss)

    counted(Scft, "scft")
    counted(SequentialRecommender, None)
    monkeypatch.setattr("lexirec.training.loop.SAVE_SECONDS", 0.0)

    def fit(place: str, resume: bool = False) -> LLMEmb:
        monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path / f"cache-{place}"))
        options = TrainingOptions(epochs=4, eval_every=1, monitor="ndcg@10", folder=tmp_path / place, resume=resume, **QUIET)
        model = create("llmemb", **settings).fit(split.train, split.valid, options)
        assert isinstance(model, LLMEmb)
        return model

    whole = fit("whole")
    needed = dict(steps)
    assert needed == {"scft": 8, "sasrec": 8, "llmemb": 8}
    steps.update(dict.fromkeys(steps, 0))
    kill[stage] = step
    with pytest.raises(KeyboardInterrupt):
        fit("cut")
    kill.clear()
    resumed = fit("cut", resume=True)
    assert steps == {**needed, stage: 8 + 2}  # only the epoch that was cut is done again, and no other stage
    assert resumed.teacher_table is not None and torch.equal(resumed.teacher_table, whole.teacher_table)
    assert torch.equal(resumed.network.items.text, whole.network.items.text)
    for name, weight in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], weight), name
    queries = [Query(user_id=user) for user in split.train.users.ids]
    assert torch.equal(resumed.score(queries), whole.score(queries))
    assert not (tmp_path / "cut" / "stage-1").exists() and not (tmp_path / "cut" / "teacher.partial").exists()


def test_new_items_are_answered_by_their_words() -> None:
    model = built(epochs=2)
    model.add_items(pl.DataFrame({"item_id": ["new"], "title": ["apple"]}))
    at = model.item_map.index(["new", "i00"])
    first, second = model.encode_items()[torch.from_numpy(at)]
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-4)  # the same words as item i00


@pytest.mark.parametrize("profiles", [(), "plain"])
def test_a_new_item_without_attributes_has_the_mean_of_the_catalogue(profiles: object) -> None:
    model = built(epochs=1, profiles=profiles)
    raw = model.network.items.text.numpy()  # as it was read for the training, profiles and all
    mean = raw.mean(0) * np.linalg.norm(raw, axis=1).mean() / np.linalg.norm(raw.mean(0))
    wanted = model.vectors_of_text(mean[None])[0]
    blank = pl.DataFrame({"item_id": ["blank"], "colour": ["red"]})  # no column that was read
    beside = pl.DataFrame({"item_id": ["blank", "apple"], "title": ["", "apple"]})
    for items in (blank, beside):
        again = built(epochs=1, profiles=profiles)
        with pytest.warns(UserWarning, match="have no attribute"):
            again.add_items(items)
        at = int(again.item_map.index(["blank"])[0])
        torch.testing.assert_close(again.encode_items()[at], wanted, atol=1e-5, rtol=1e-4)


def test_a_shop_with_other_columns_is_told_which_are_read() -> None:
    model = built(items="text")
    other = Dataset(markov(0.8).interactions, markov(0.8).items.select("item_id", name="title")).train_set()
    with (
        pytest.warns(UserWarning, match="have no attribute"),
        pytest.raises(InputError, match=r"12 of 12 have no attribute among title.*; the table has item_id, name"),
    ):
        model.transfer(other)


def test_wishes_are_read_as_items_are_written() -> None:
    model = built()
    title = markov(0.8).items["title"][0]
    assert model.prompts(markov(0.8).items).texts()[0] == wish_prompt(title)
    found = model.encode_words([title])[0]
    torch.testing.assert_close(found, torch.nn.functional.normalize(model.encode_items()[:1])[0], atol=1e-5, rtol=1e-4)


def test_a_log_that_nothing_can_be_drawn_from_is_told_before_any_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("lexirec.models.llmemb.teacher_table")
    for system in ("said", "tslrec"):
        monkeypatch.delattr(f"lexirec.models.{system}.kept")
    items = markov(0.8).items
    single = pl.DataFrame({"user_id": ["a", "b"], "item_id": ["i00", "i01"], "timestamp": [1, 2]})
    full = pl.DataFrame({"user_id": ["a"] * 12, "item_id": items["item_id"], "timestamp": range(12)})
    small = {"embedding_dim": 4, "max_len": 8}
    for log, message in ((single, "no user has two training events"), (full, "have every item of the catalogue")):
        for system, settings in (("llmemb", {"scft": None, "encoder": "lsa"}), ("said", {}), ("tslrec", {"categories": 3})):
            with pytest.raises(InputError, match=message):
                create(system, **small, **settings).fit(Dataset(log, items).train_set(), options=TrainingOptions(epochs=1, **QUIET))


def test_the_teacher_is_trained_once_for_every_backbone_and_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lexirec.models.sasrec import SASRec

    trained: list[int] = []
    real = SASRec.learn

    def learn(self, train, valid, options):
        trained.append(options.seed)
        return real(self, train, valid, options)

    monkeypatch.setattr(SASRec, "learn", learn)
    split = markov(0.8).split("leave-one-out")
    tables = []
    for seed, backbone in ((1, "sasrec"), (2, "gru4rec")):
        settings = {name: value for name, value in SMALL.items() if name != "dropout"} | {"backbone": backbone}
        options = TrainingOptions(epochs=2, seed=seed, folder=tmp_path / backbone, **QUIET)
        tables.append(create("llmemb", **settings).fit(split.train, split.valid, options).teacher_table)
        assert (tmp_path / backbone / "teacher").exists() == (seed == 1)
    kept = list(Path(os.environ["LEXIREC_CACHE"], "stages").iterdir())
    assert [set(load_tensors(file)[0]) for file in kept] == [{"result"}]  # vectors of items, nothing of people
    assert trained == [42] and torch.equal(*tables)
    create("llmemb", **SMALL).fit(split.train, split.valid, TrainingOptions(epochs=3, **QUIET))
    assert len(trained) == 2  # another training


def test_a_teacher_of_other_settings_or_events_is_not_taken_up(tmp_path: Path) -> None:
    """What lies in a folder that a training goes on in is this training's own, or it would be kept under its name for all others."""
    split = markov(0.8).split("leave-one-out")

    def fit(train: TrainSet, lr: float, resume: bool) -> None:
        options = TrainingOptions(epochs=1, folder=tmp_path / "run", resume=resume, **QUIET)
        create("llmemb", **{**SMALL, "lr": lr}).fit(train, None, options)

    fit(split.train, 0.001, resume=False)
    shutil.rmtree(default_folder() / "stages")
    fit(split.train, 0.001, resume=True)
    for train, lr in ((split.train, 0.05), (markov(0.8).split("all").train, 0.001)):
        with pytest.raises(InputError, match="begun with another result of the stage 'teacher'"):
            fit(train, lr, resume=True)


@pytest.mark.parametrize("changed", [{"epochs": 3}, {"precision": "bf16"}])
def test_a_teacher_from_the_cache_is_kept_to_like_one_of_its_own(tmp_path: Path, changed: dict[str, object]) -> None:
    """What the first half of a training was aligned with must not change in the second, whoever trained it."""
    split = markov(0.8).split("leave-one-out")

    def fit(name: str, seed: int, resume: bool, **more: object) -> None:
        options = TrainingOptions(**{"epochs": 1, "seed": seed, "folder": tmp_path / name, "resume": resume, **QUIET, **more})
        create("llmemb", **SMALL).fit(split.train, None, options)

    fit("makes it", 1, resume=False)
    fit("finds it", 2, resume=False)
    for name, seed in (("makes it", 1), ("finds it", 2)):
        with pytest.raises(InputError, match="begun with another result of the stage 'teacher'"):
            fit(name, seed, resume=True, **changed)
    assert len(list((default_folder() / "stages").iterdir())) == 1


def test_vectors_made_before_are_looked_up(tmp_path: Path) -> None:
    """The official way: vectors of a large model, made elsewhere."""
    items = markov(0.8).items
    vectors = np.random.default_rng(0).normal(size=(items.height, 16)).astype(np.float32)
    write_vectors(tmp_path / "vectors.parquet", items["item_id"], vectors, {})
    for name in (f"file:{tmp_path / 'vectors.parquet'}", f"file:{tmp_path / 'vectors.parquet'}?words=lsa"):
        with pytest.raises(InputError, match=r"prompt.*encoder = 'file:"):
            create("llmemb", **{**SMALL, "encoder": name, "prompt": "yelp"})
    model = built(epochs=1, encoder=f"file:{tmp_path / 'vectors.parquet'}")
    assert torch.equal(model.network.items.text, torch.from_numpy(vectors[model.item_map.index(items["item_id"])]))
    model.save(tmp_path / "model")
    assert torch.equal(load_model(tmp_path / "model").encode_items(), model.encode_items())


def test_encoding_takes_the_threads_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(LLMEmb, "text_width", lambda self, items, encoder: seen.append(torch.get_num_threads()) or 12)
    try:
        torch.set_num_threads(2)
        built()
    finally:
        torch.set_num_threads(before)
    assert seen == [1]


def test_stage_one_of_two_runs_at_once_is_made_by_one(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from lexirec.training import finetune

    real = finetune.finetune_items
    settings = {"scft": {"steps": 2, "batch_size": 6}, "encoder": tiny, "teacher": None}
    inside: list[LLMEmb] = []

    def slow(*args, **named):
        if not inside:  # the other run begins later and ends first
            inside.append(None)  # type: ignore[arg-type]
            monkeypatch.setattr(os, "getpid", lambda: 1)
            inside[0] = built(**settings)
            monkeypatch.undo()
        return real(*args, **named)

    cache = os.environ["LEXIREC_CACHE"]
    monkeypatch.setattr(finetune, "finetune_items", slow)
    with pytest.MonkeyPatch.context() as own:
        own.setenv("LEXIREC_CACHE", cache)
        first = built(**settings)
        torch.testing.assert_close(first.network.items.text, inside[0].network.items.text)
        assert [len(list(Path(cache, "encoders").iterdir()))] == [1]


def test_a_clipped_stage_one_is_another(tiny: str) -> None:
    settings = {**SMALL, "scft": {"steps": 3, "batch_size": 6, "lr": 0.01}, "encoder": tiny, "teacher": None}
    train = markov(0.8).split("leave-one-out").train
    plain, clipped = (
        create("llmemb", **settings).fit(train, options=TrainingOptions(epochs=0, clip_norm=clip, **QUIET)) for clip in (None, 1e-4)
    )
    assert not torch.equal(plain.network.items.text, clipped.network.items.text)


def test_the_language_model_leaves_the_memory_before_stage_two(tiny: str) -> None:
    model = built(encoder=tiny, teacher=None)
    assert model.reader.encoder._loaded is None
    assert model.score([Query(intent="apple")]).isfinite().all() and model.reader.encoder._loaded is not None


def test_stage_one_is_tuned_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lexirec.training import finetune

    calls = []

    def counted(items, config, options, encoder, **named):
        calls.append(config.steps)
        return real(items, config, options, encoder, **named)

    real = finetune.finetune_items
    monkeypatch.setattr(finetune, "finetune_items", counted)
    settings = {"scft": {"steps": 2, "batch_size": 6}, "encoder": "minilm", "teacher": None}
    first, second = built(**settings), built(**settings)
    assert calls == [2]
    torch.testing.assert_close(first.network.items.text, second.network.items.text)
    untuned = built(**{**settings, "scft": None})
    assert not torch.allclose(untuned.network.items.text, first.network.items.text)
    beside = built(**{**settings, "encoder": "join:minilm|lsa?dim=3"})
    assert calls == [2]  # the same stage 1: what stands beside has no part in it
    rows, tuned = (model.item_text(markov(0.8).items) for model in (beside, first))
    assert rows.shape == (len(tuned), 384 + 3)
    np.testing.assert_allclose(rows[:, :384], tuned / np.linalg.norm(tuned, axis=1, keepdims=True) / 2**0.5, atol=1e-6)


def test_both_stages_read_the_same_prompts(tmp_path: Path) -> None:
    from lexirec.training.finetune import finetune_items

    with pytest.raises(InputError, match="set prompt instead"):
        create("llmemb", scft={"style": "beauty"})
    with pytest.raises(InputError, match="no weights that stage 1"):
        built(scft={"steps": 1})
    with pytest.raises(InputError, match="the first is tuned"):
        built(scft={"steps": 1}, encoder="join:lsa?dim=3|minilm")
    items = markov(0.8).items
    finetune_items(items, {"steps": 1, "batch_size": 4, "max_characters": 7}, TrainingOptions(**QUIET), out=tmp_path / "tuned")
    name = f"hf:{tmp_path / 'tuned'}?pooling=mean"
    for read in (name, f"join:lsa?dim=3|{name}"):
        with pytest.raises(InputError, match="max_characters"):
            built(encoder=read)
    built(encoder=name, max_characters=7)
    with pytest.raises(InputError, match=r"was tuned with max_length = 256 and is read otherwise; set encoder=hf:.*tuned\?"):
        built(encoder=f"{name}&max_length=30", max_characters=7)
    more = items.with_columns(colour=pl.lit("red"))
    finetune_items(more, {"steps": 1, "batch_size": 4}, TrainingOptions(**QUIET), out=tmp_path / "coloured")
    with pytest.warns(UserWarning, match="was tuned on the attributes title, colour; here it reads title"):
        built(encoder=f"hf:{tmp_path / 'coloured'}?pooling=mean")
    finetune_items(more, {"steps": 1, "batch_size": 4, "columns": ["colour"]}, TrainingOptions(**QUIET), out=tmp_path / "one")
    with pytest.raises(InputError, match="columns"):
        built(encoder=f"hf:{tmp_path / 'one'}?pooling=mean")


def test_new_items_are_read_by_the_columns_of_training() -> None:
    model = built()
    plain = pl.DataFrame({"item_id": ["new"], "title": ["apple"]})
    assert np.array_equal(model.item_text(plain), model.item_text(plain.with_columns(colour=pl.lit("red"))))


def test_a_teacher_that_saw_held_out_events_is_refused(tmp_path: Path) -> None:
    from lexirec import runs

    folder = tmp_path / "data"
    folder.mkdir()
    data = markov(0.8)
    data.interactions.write_parquet(folder / "interactions.parquet")
    data.items.write_parquet(folder / "items.parquet")
    runs.fit_run(runs.resolve("mf-bpr", [folder], sets=["embedding_dim=8", "epochs=1"], split="all"), tmp_path / "run", progress=False)
    with pytest.raises(InputError, match="outside of this training part"):
        built(teacher=str(tmp_path / "run"))
    with pytest.raises(InputError, match="neither 'sasrec'"):
        built(teacher="nope")


def test_llm2x_starts_at_the_components_with_a_mask_of_its_own() -> None:
    train = markov(0.8).split("leave-one-out").train
    settings = {"embedding_dim": 8, "max_len": 8, "batch_size": 32, "encoder": "lsa", "backbone": "bert4rec"}
    masks = []
    for seed in (1, 2):
        model = create("llm2x", **settings).fit(train, options=TrainingOptions(epochs=0, seed=seed, **QUIET))
        start = torch.from_numpy(model.reader.reduce(model.item_text(train.items)))
        torch.testing.assert_close(model.network.items.own.weight.detach(), start)
        assert start.mean(0).abs().max() < 1e-6
        masks.append(model.network.mask.detach())
    assert not torch.equal(*masks)  # drawn, not taken from the text
    model.fit(train, options=TrainingOptions(epochs=1, seed=2, **QUIET))
    assert not torch.equal(model.network.items.own.weight.detach(), start)


def test_profiles_tell_the_training_part_in_the_prompts(tmp_path: Path) -> None:
    train = markov(0.8).split("leave-one-out").train
    model = built(profiles="plain")
    assert model.columns == (*built().columns, "profile")
    described = model.described(train).items
    written = PlainWriter(versions=0).write(train)
    assert described["profile"].to_list() == written.item_texts()
    prompts = model.prompts(described).texts()
    assert all(text.replace(";", ",") in prompt for text, prompt in zip(written.item_texts(), prompts, strict=True))
    assert sum("Chosen together with" in text for text in prompts) > 6
    long = train.items.with_columns(profile=pl.lit("word " * 60))  # a profile is read whole, other attributes are cut
    assert "word " * 59 + "word" in model.prompts(long).texts()[0]
    # The catalogue that is kept stays the shop's own, and a column that is named stands beside the profile.
    assert "profile" not in model.items.columns
    assert built(profiles="plain", columns=["title"]).columns == built(profiles="plain", columns=["title", "profile"]).columns

    # A new item and a wish have what their own words give, before and after saving.
    model.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    new = pl.DataFrame({"item_id": ["new", "newer"], "title": ["red apple", ""]})
    assert model.with_profiles(new)["profile"].to_list() == ["red apple.", None]
    for one in (model, loaded):
        one.add_items(new)
    torch.testing.assert_close(loaded.encode_items(), model.encode_items(), atol=1e-6, rtol=1e-5)
    wish = [Query(intent="red apple")]
    torch.testing.assert_close(loaded.score(wish), model.score(wish), atol=1e-5, rtol=1e-5)
    assert model.recommend(wish, k=1)["item_id"].to_list() == ["new"]  # its own words, as it was read itself


def test_profiles_are_of_one_training_part(tiny: str, tmp_path: Path) -> None:
    data, train = markov(0.8), markov(0.8).split("leave-one-out").train
    written = PlainWriter(versions=0).write(train)
    told = Profiles(written.items.with_columns(profile=pl.lit("Loved by all.")), written.users, {})
    write_profiles(tmp_path / "profiles", told, train)
    read = built(profiles=str(tmp_path / "profiles"))
    assert read.described(train).items["profile"].unique().to_list() == ["Loved by all."]
    other = data.split("ratio").train
    with pytest.raises(InputError, match="another training part"):
        read.described(other)
    (tmp_path / "profiles").rename(tmp_path / "gone")
    assert read.transfer(other).encode_items().shape == (data.n_items, 8)  # written anew there, and no folder is needed
    # What was tuned on such texts is asked about that part alone.
    built(profiles="plain", encoder=tiny, scft={"steps": 1, "batch_size": 4})
    (tuned,) = (default_folder() / "encoders").glob("scft-*")
    name = {"encoder": tuned_name(tuned), "profiles": "plain", "columns": ["title"]}
    built(**name)
    with pytest.raises(InputError, match="profiles of another training part"):
        create("llmemb", **{**SMALL, **name}).fit(other, options=TrainingOptions(epochs=0, **QUIET))


def test_profiles_that_nothing_could_read_whole_are_refused() -> None:
    for style in ("beauty", "fashion"):
        with pytest.raises(InputError, match="cuts each value at 100 characters"):
            create("llmemb", profiles="plain", prompt=style)
    assert create("llmemb", profiles="plain", prompt="yelp").config.profiles == ("plain",)
    model = create("llmemb", profiles="plain")
    train = markov(0.8).split("leave-one-out").train
    with pytest.raises(InputError, match="items have a column 'profile'"):
        model.described(replace(train, items=train.items.with_columns(profile=pl.lit("x"))))


@pytest.mark.parametrize("profiles", [(), "plain"])
def test_an_item_that_nothing_is_said_of_has_no_prompt(profiles: object) -> None:
    data = markov(0.8)
    blank = data.items.vstack(pl.DataFrame({"item_id": ["blank"], "title": [None]}, schema=data.items.schema))
    train = Dataset(data.interactions, blank).split("leave-one-out").train
    model = create("llmemb", **SMALL, profiles=profiles)
    with pytest.warns(UserWarning, match=r"items: 1 of 13 have no attribute among .*item_id 'blank'"):
        model.fit(train, options=TrainingOptions(epochs=0, **QUIET))
