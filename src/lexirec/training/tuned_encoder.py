"""The folder of a tuned encoder: an ordinary model that ``hf:`` reads, and beside it how it was made."""

from pathlib import Path
from typing import Any

from lexirec.files import read_json
from lexirec.text.encoders.hub import join_name
from lexirec.training.scft_config import ScftConfig

RECIPE = "scft.json"
"""In the tuned encoder's folder: how it was made, the prompts' style included."""


def read_recipe(folder: str | Path) -> dict[str, Any]:
    """How a tuned encoder was made: ``base``, ``config`` (with the prompts' style), ``seed``, ``steps``, ``tau`` and hashes.

    Raises:
        InputError: if the folder holds no tuned encoder.
    """
    recipe: dict[str, Any] = read_json(Path(folder) / RECIPE)
    return recipe


def tuned_name(folder: str | Path) -> str:
    """The name by which :func:`lexirec.text.load_encoder` reads a tuned encoder's folder."""
    place = Path(folder).resolve()
    recipe = read_recipe(place)
    config = ScftConfig.parse(recipe["config"])
    options: dict[str, Any] = {"pooling": config.pooling, "max_length": config.max_length, "normalize": str(config.normalize).lower()}
    if recipe["prompt"]:
        options["prompt"] = recipe["prompt"]
    return join_name("hf", str(place), options)
