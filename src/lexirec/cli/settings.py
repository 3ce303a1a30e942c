"""``lexirec settings``: the models, and what can be set for one."""

import json
from typing import Annotated, Any

import typer


def settings(
    model: Annotated[str | None, typer.Argument(help="Name of a model; without one, all models are listed.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")] = False,
) -> None:
    """List the models, or everything that --set takes for one: its own settings, those of the training and of the data."""
    from lexirec.models import available, model_class
    from lexirec.runs import DATA_KEYS
    from lexirec.settings import Setting, describe
    from lexirec.training.options import TrainingOptions

    if model is None:
        lines = {name: (model_class(name).__doc__ or "").strip().split("\n")[0] for name in available()}
        if as_json:
            print(json.dumps(lines))
            return
        for name, line in lines.items():
            print(f"{name:<18}{line}")
        print("\nlexirec settings MODEL lists what can be set for one.")
        return
    inner = ("folder", "resume", "progress", "mask_seen")  # the command line's own, and one that follows from data.mask_seen
    groups = {
        model: describe(model_class(model).Config),
        "training": [setting for setting in describe(TrainingOptions) if setting.name not in inner],
        "data": [Setting(f"data.{key}", "", None, meaning) for key, meaning in DATA_KEYS.items()],
    }
    if as_json:
        print(json.dumps({group: [vars(setting) for setting in found] for group, found in groups.items()}, default=str))
        return
    for group, found in groups.items():
        print(f"{group}: --set NAME=VALUE, or {'config' if group == model else group}: in a --config file")
        for setting in found:
            print(f"  {_head(setting)}\n      {setting.meaning}")
        print()


def _head(setting: Any) -> str:
    if not setting.kind:
        return str(setting.name)
    return f"{setting.name} = {json.dumps(setting.default, default=str)}   ({setting.kind})"
