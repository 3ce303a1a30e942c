"""``lexirec finetune``: an encoder tuned on a catalogue's attributes, as a folder that ``--encoder hf:FOLDER`` reads."""

import json
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lexirec.errors import InputError, nearest


def finetune(
    data: Annotated[Path, typer.Option("--data", help="Folder with items (and interactions, which aren't looked at).")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the tuned encoder; whole or absent.")],
    encoder: Annotated[str, typer.Option("--encoder", help="What to start from: minilm, hf:MODEL or st:MODEL.")] = "minilm",
    set_: Annotated[
        list[str], typer.Option("--set", help="key=value: a setting of the fine-tuning or a training option. Repeatable.")
    ] = [],  # noqa: B006 (typer reads the default)
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted fine-tuning.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")] = False,
) -> None:
    """Fine-tune a text encoder so that items are told apart by their attributes (SCFT, LLMEmb's first stage)."""
    from lexirec.data.readers import read_dataset
    from lexirec.runs import parse_options
    from lexirec.training.finetune import finetune_items
    from lexirec.training.options import TrainingOptions
    from lexirec.training.scft_config import ScftConfig
    from lexirec.training.tuned_encoder import read_recipe

    config, training = _settings(set_, ScftConfig.model_fields, TrainingOptions.model_fields)
    if out.exists():
        raise InputError(f"{out} exists already; choose another folder or remove it")
    settings = ScftConfig.parse(config)
    # Checkpoints stay beside the result until it is whole, so that an interrupted training can go on.
    work = out.with_name(out.name + ".partial")
    if work.exists() and not resume:
        raise InputError(f"{work} is left from an interrupted fine-tuning; go on with --resume, or remove it")
    items = read_dataset(data).items
    options = parse_options({**training, "folder": work, "resume": resume})
    tuned = finetune_items(items, settings, options, encoder, out=out)
    shutil.rmtree(work, ignore_errors=True)
    recipe = read_recipe(out)
    if as_json:
        print(json.dumps({"out": str(out), "encoder": tuned.name, "dim": tuned.dim, **recipe}))
        return
    print(f"{out}: {recipe['items']:,} items, {recipe['steps']:,} steps in {recipe['seconds']} s, tau {recipe['tau']:.3f}")
    print(f"use it in a model: --set 'encoder={tuned.name}', or with lexirec embed: --encoder '{tuned.name}'")
    if settings.style != "general" or settings.instruction is not None:
        print(f"note: it was tuned on prompts of style {settings.style}; give it the same ones", file=sys.stderr)


def _settings(sets: list[str], config_keys: Any, training_keys: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """``key=value`` strings, told apart into settings and training options."""
    from lexirec.settings import parse_set

    config: dict[str, Any] = {}
    training: dict[str, Any] = {}
    reserved = {"folder", "resume", "epochs", "eval_every", "patience", "monitor"}
    known = [*config_keys, *(key for key in training_keys if key not in reserved)]
    for setting in sets:
        key, value = parse_set(setting)
        if key not in known:
            raise InputError(f"--set {key}: fine-tuning has no such setting{nearest(key, known)}; there are {', '.join(known)}")
        (config if key in config_keys else training)[key] = value
    return config, training
