"""What can be set is listed with its meaning."""

import json

import pytest

from lexirec.cli.main import run
from lexirec.models import MODELS, model_class
from lexirec.settings import describe
from lexirec.training.options import TrainingOptions


@pytest.mark.parametrize("kind", [*(model_class(name).Config for name in MODELS), TrainingOptions], ids=lambda kind: kind.__name__)
def test_every_setting_has_values_and_a_meaning(kind: type) -> None:
    for setting in describe(kind):
        assert setting.kind and setting.kind != "any", setting
        assert setting.meaning.endswith((".", ":")) and "`" not in setting.meaning, setting


def test_models_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["settings"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n{name} " in f"\n{shown}" for name in MODELS)
    assert run(["settings", "--json"]) == 0
    assert json.loads(capsys.readouterr().out).keys() == MODELS.keys()


def test_settings_of_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["settings", "alpharec"]) == 0
    shown = capsys.readouterr().out
    assert "  tau = 0.15   (number, above 0)\n      Temperature of InfoNCE.\n" in shown
    assert '  projector = "mlp"   (mlp, linear)' in shown
    assert "  clip_norm = null   (number, above 0 or null)" in shown
    assert "  data.split\n      How events are held out" in shown
    assert run(["settings", "alpharec", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["training"][0]["name"] == "epochs"
    assert run(["settings", "alpharek"]) == 2
    assert "did you mean 'alpharec'" in capsys.readouterr().err
