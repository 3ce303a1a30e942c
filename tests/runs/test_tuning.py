"""The search for settings: what is searched, that it goes on where it stopped, and what may not change in between."""

from pathlib import Path

import pytest

from lexirec import runs, tuning
from lexirec.errors import InputError
from lexirec.models import MODELS, model_class
from tests.models.toys import write_shop

UNTRAINED = ("popularity", "lir", "zero-shot")
SETS = ["epochs=1", "eval_every=1", "embedding_dim=4", "batch_size=64", "threads=1", "progress=false"]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return write_shop(tmp_path / "shop")


@pytest.mark.parametrize("name", [name for name in MODELS if name not in UNTRAINED])
def test_every_end_of_the_default_space_is_a_setting_of_the_model(name: str) -> None:
    kind = model_class(name).Config
    config = kind.parse({})
    space = tuning.default_space(config)
    for key, values in space.items():
        for value in values.ends():
            assert getattr(kind.parse({key: value}), key) == value
        own = getattr(config, key)
        assert own == 0 or (own in values.choices if values.choices else values.low <= own <= values.high), key


@pytest.mark.parametrize("name", UNTRAINED)
def test_nothing_to_search_is_an_error(name: str) -> None:
    with pytest.raises(InputError, match="no setting to search"):
        tuning.default_space(model_class(name).Config.parse({}))


def test_only_what_is_read_is_searched() -> None:
    def keys(name: str, **settings: object) -> set[str]:
        return set(tuning.default_space(model_class(name).Config.parse(settings)))

    assert keys("mf-bpr") == {"lr", "reg", "weight_decay"}
    assert not keys("lightgcn") & {"tau", "num_negs"}
    assert {"tau", "num_negs", "num_layers"} <= keys("lightgcn", loss="infonce", cosine=True)
    assert "num_negs" not in keys("lightgcn-infonce", negatives="in-batch")
    assert not keys("sasrec") & {"tau", "num_negs"}
    assert {"tau", "num_negs"} <= keys("sasrec", loss="softmax", cosine=True)


@pytest.mark.parametrize("text", ["lr=log:0:3", "lr=3:1", "lr=a:b", "lr=nan:1", "num_layers=1.5:3", "lr=-1:1", "lr", "layers=1,2"])
def test_a_bad_space_is_refused_before_anything_is_trained(text: str) -> None:
    with pytest.raises(InputError, match="--space"):
        tuning.given_space(model_class("lightgcn").Config.parse({}), [text])


def test_a_resumed_search_goes_on_and_refuses_other_fixed_settings(tmp_path: Path, shop: Path) -> None:
    optuna = pytest.importorskip("optuna")
    out = tmp_path / "study"

    def tune(trials: int, *sets: str, space: str = "lr=log:0.001:0.1") -> None:
        tuning.tune_model("mf-bpr", [shop], trials, out, space=[space, "num_negs=1:4"], sets=[*SETS, *sets])

    tune(2)
    tune(4)
    storage = f"sqlite:///{out / 'study.db'}"
    (name,) = optuna.get_all_study_names(storage)
    trials = optuna.load_study(study_name=name, storage=storage).trials
    assert len({trial.params["lr"] for trial in trials}) == 4
    assert all(isinstance(trial.params["num_negs"], int) for trial in trials)
    for changed in ("weight_decay=0.1", "monitor=recall@10", "epochs=2"):
        with pytest.raises(InputError, match=changed.partition("=")[0]):
            tune(5, changed)
    with pytest.raises(InputError, match="--space lr"):
        tune(5, space="lr=log:0.001:0.2")
    tune(4, "device=cpu")  # where it is trained may change


def test_a_trial_that_diverges_is_an_answer_and_not_the_end(tmp_path: Path, shop: Path) -> None:
    optuna = pytest.importorskip("optuna")

    def tune(trials: int, rates: str, out: str) -> dict[str, object]:
        return tuning.tune_model("mf-bpr", [shop], trials, tmp_path / out, space=[f"lr={rates}"], sets=SETS)

    with pytest.warns(UserWarning, match=r"trial \d+ \(lr=1e\+39\): the loss is"):
        found = tune(8, "0.01,1e39", "some")
    assert found["finished"] == 8 and found["best_settings"] == {"lr": 0.01}
    with pytest.warns(UserWarning, match="the loss is"), pytest.raises(InputError, match=r"none of 2 trials had .* a finite loss"):
        tune(2, "1e39,1e38", "none")
    storage = f"sqlite:///{tmp_path / 'some' / 'study.db'}"
    (name,) = optuna.get_all_study_names(storage)
    states = {trial.state.name for trial in optuna.load_study(study_name=name, storage=storage).trials}
    assert states == {"COMPLETE", "PRUNED"}


def test_what_a_searched_setting_makes_meaningless_is_left_out(tmp_path: Path, shop: Path) -> None:
    optuna = pytest.importorskip("optuna")
    found = tuning.tune_model(
        "lightgcn", [shop], 6, tmp_path / "out", space=["loss=bpr,infonce", "tau=0.2:0.5"], sets=[*SETS, "num_layers=1"]
    )
    storage = f"sqlite:///{tmp_path / 'out' / 'study.db'}"
    trials = optuna.load_study(study_name=optuna.get_all_study_names(storage)[0], storage=storage).trials
    assert {(trial.params["loss"], trial.state.name) for trial in trials} == {("bpr", "COMPLETE"), ("infonce", "COMPLETE")}
    assert ("tau" in found["best_settings"]) == (found["best_settings"]["loss"] == "infonce")
    runs.resolve("lightgcn", [shop], config_file=found["config"])  # whichever was best


def test_defaults_that_follow_from_a_searched_setting_are_its_own(tmp_path: Path, shop: Path) -> None:
    pytest.importorskip("optuna")
    fixed = ["transform=pca", "max_len=5", "encoder=lsa"]
    found = tuning.tune_model("llm2x", [shop], 4, tmp_path / "out", space=["backbone=gru4rec,bsarec"], sets=[*SETS, *fixed])
    assert found["finished"] == 4
    best = runs.resolve("llm2x", [shop], config_file=found["config"]).config
    assert (best["num_layers"], best["block"]) == {"gru4rec": (1, "original"), "bsarec": (2, "post-norm")}[best["backbone"]]


def test_settings_that_do_not_go_together_are_no_end_either(tmp_path: Path, shop: Path) -> None:
    pytest.importorskip("optuna")
    # loss=bpr compares pairs and refuses in-batch negatives
    space = ["loss=bpr,infonce", "negatives=in-batch,shared"]
    found = tuning.tune_model("lightgcn", [shop], 8, tmp_path / "out", space=space, sets=[*SETS, "num_layers=1"])
    assert found["finished"] == 8 and (found["best_settings"]["loss"], found["best_settings"]["negatives"]) != ("bpr", "in-batch")
    assert "projector" not in tuning.default_space(model_class("alpharec").Config.parse({"hidden": 64}))
    assert "projector" in tuning.default_space(model_class("alpharec").Config.parse({}))
