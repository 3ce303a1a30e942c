"""A catalogue and an encoder to a tuned encoder: prompts of the items, the training (SCFT), a folder that is whole or absent."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl

from lexirec.errors import InputError
from lexirec.files import atomic_folder, read_json, write_json
from lexirec.text.cache import default_folder
from lexirec.text.encoders import Encoder, load_encoder, parse_name
from lexirec.text.encoders.base import as_bool, as_int
from lexirec.text.encoders.families import is_causal
from lexirec.text.prompts import Prompts, attribute_columns, attribute_prompts
from lexirec.training.loop import cpu_threads, pick_device, run_training
from lexirec.training.options import TrainingOptions
from lexirec.training.scft import Scft
from lexirec.training.scft_config import ADAPTERS, ScftConfig
from lexirec.training.tuned_encoder import RECIPE, tuned_name
from lexirec.training.weights import base_encoder


def finetune_items(
    items: pl.DataFrame,
    config: ScftConfig | Mapping[str, Any] | None = None,
    options: TrainingOptions | None = None,
    encoder: str | Encoder = "minilm",
    *,
    out: str | Path | None = None,
    log: str = "",
) -> Encoder:
    """Fine-tune an encoder on a catalogue, so that items are told apart by their attributes.

    Args:
        items: catalogue with ``item_id`` and attributes; items without any are left out with a warning.
        config: an :class:`ScftConfig` or its settings.
        options: seed, device, precision, threads, time limit, and where checkpoints go (``folder``); ``epochs`` bounds the config's.
            With ``bf16`` and adapters the frozen base is held in bfloat16 too.
        encoder: what to start from; stays as it is.
        out: folder to write the tuned encoder to, whole or absent; by default ``options.folder / "encoder"``, else a folder of the cache.
        log: content hash of the training part that attributes (profiles) were written from, if any were; the encoder's recipe names it.

    Returns:
        The tuned encoder, read back from ``out``: ``hf:<out>?pooling=...``. Its fingerprint holds a hash of the tuned weights.

    Raises:
        InputError: for bad settings or encoders, fewer than two items with attributes, an ``out`` that exists, or a resume with other
            items or settings.
        LexirecError: if vectors, the loss or gradients are NaN or infinite, with the step and the item ids; the last checkpoint stays.
        MissingExtraError: if adapters are asked for without the ``finetune`` extra.
    """
    config = config if isinstance(config, ScftConfig) else ScftConfig.parse(config or {})
    options = options or TrainingOptions()
    target = Path(out) if out is not None else options.folder / "encoder" if options.folder is not None else None
    if target is not None and target.exists():
        raise InputError(f"{target} exists already; choose another folder or remove it")
    with cpu_threads(options.threads):
        return _tuned(items, config, options, encoder, target, replace=out is None, log=log)


def _tuned(
    items: pl.DataFrame,
    config: ScftConfig,
    options: TrainingOptions,
    encoder: str | Encoder,
    target: Path | None,
    *,
    replace: bool,
    log: str,
) -> Encoder:
    """What :func:`finetune_items` does once its arguments are checked; ``target`` is a folder of the cache if not given."""
    prompts = attribute_prompts(items, config.style, config.instruction, columns=config.columns, max_characters=config.max_characters)
    kept = np.flatnonzero(~prompts.empty())
    prompts = Prompts(prompts.instruction, [prompts.phrases[i] for i in kept], [prompts.item_ids[i] for i in kept])
    device = str(pick_device(options.device))
    if isinstance(encoder, str):
        check_reading(encoder, config)
    base = base_encoder(encoder, device=device, **config.reading)
    lora = is_causal(base.config) if config.lora == "auto" else config.lora
    set_apart = [name for name in ADAPTERS if getattr(config, name) != ScftConfig.model_fields[name].default]
    if set_apart and not lora:
        raise InputError(f"{', '.join(set_apart)}: {base.name} is no causal language model, so all its weights are tuned; set lora=true")
    if lora and options.precision == "bf16":
        base = base_encoder(encoder, device=device, precision="bfloat16", **config.reading)
    recipe = {
        "base": base.name,
        "columns": list(config.columns or attribute_columns(items, config.style)),
        "prompt": base.prompt,
        "base_fingerprint": base.fingerprint,
        "config": config.model_dump(mode="json"),
        "seed": options.seed,
        "precision": options.precision,
        "clip_norm": options.clip_norm,
        "items": len(prompts),
        "prompts_sha256": hashlib.sha256("\0".join(prompts.texts()).encode("utf-8", "replace")).hexdigest(),
    }
    if log:
        recipe["log"] = log
    _check_resume(options, recipe)
    # A learning rate that ends at 0 needs its end from the start, so steps become epochs here and not in the loop.
    epochs = min(config.epochs, options.epochs)
    model = Scft(prompts, config, base, seed=options.seed, epochs=max(epochs, 1))
    if config.steps is not None:
        epochs = min(-(-config.steps // model.n_batches()), options.epochs)
    result = run_training(model, cast(Any, prompts), None, options.model_copy(update={"epochs": epochs}))
    recipe |= {"steps": model.steps_done(), "tau": float(model.tau.detach()), "stopped": result.stopped}
    if target is None:
        digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode())
        for weight in model.network.parameters():
            digest.update(weight.detach().float().cpu().contiguous().numpy().tobytes())
        target = default_folder() / "encoders" / digest.hexdigest()[:16]
    with atomic_folder(target, replace=replace) as folder:
        model.save(folder, {**recipe, "seconds": round(result.seconds, 1)})
    return load_encoder(tuned_name(target))


def _check_resume(options: TrainingOptions, recipe: Mapping[str, Any]) -> None:
    """Refuse to go on with other items or settings than a training began with."""
    if options.folder is None:
        return
    path = options.folder / RECIPE
    if options.resume and path.exists():
        before = read_json(path)
        changed = [key for key in recipe if before.get(key) != json.loads(json.dumps(recipe[key]))]
        if changed:
            raise InputError(f"{options.folder} was begun with other {', '.join(changed)}; use those again, or another folder")
    options.folder.mkdir(parents=True, exist_ok=True)
    write_json(path, dict(recipe))


def check_reading(name: str, config: ScftConfig) -> None:
    """Refuse an encoder whose name says of pooling, length or unit vectors something else than its tuning does."""
    for option, said in parse_name(name)[2].items():
        if option not in config.reading or said == "auto":
            continue
        ours = config.reading[option]
        theirs = as_bool(said, option) if isinstance(ours, bool) else as_int(said, option) if isinstance(ours, int) else said
        if theirs != ours:
            raise InputError(
                f"encoder {name!r} has {option}={said} and is tuned with {option} = {ours}; take it out of the name, or set the tuning's"
                f" {option} (scft.{option} of LLMEmb)"
            )
