"""``lexirec embed``: a catalogue's texts to a file of vectors that ``file:`` reads back."""

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from lexirec.cli.tables import Columns, Encoding, NullValues, TableReader
from lexirec.errors import InputError


def embed(
    items: Annotated[Path, typer.Option(help="Catalogue with item_id, title and any attributes: Parquet, CSV, TSV, JSON lines (.gz too).")],
    out: Annotated[Path, typer.Option(help="Parquet file to write: item_id and vector; replaced if it exists.")],
    encoder: Annotated[
        str, typer.Option(help="minilm, lsa, hf:MODEL?pooling=last&max_length=128, st:MODEL, api:MODEL, or file:VECTORS.")
    ] = "minilm",
    template: Annotated[str, typer.Option(help="Columns that make an item's text, in order: title, or title,brand,categories.")] = "title",
    empty_text: Annotated[
        str, typer.Option("--empty-text", help="What an item without text gets: mean, attributes, item_id, placeholder or error.")
    ] = "mean",
    column: Columns = [],  # noqa: B006 (typer reads the default)
    encoding: Encoding = "utf-8",
    null_values: NullValues = None,
    cache: Annotated[bool, typer.Option(help="Keep vectors in the cache folder (LEXIREC_CACHE), so that a text is encoded once.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")] = False,
) -> None:
    """Encode a catalogue's texts and write the vectors with what made them (encoder, revision, template, hashes of the texts)."""
    from lexirec.data.checks import check_items
    from lexirec.text import item_vectors, load_encoder, parse_template, render, write_vectors
    from lexirec.text.encoders.file import texts_sha256

    if out.suffix != ".parquet":
        raise InputError(f"--out is {out}; vectors are written as Parquet: give a name ending in .parquet")
    start = time.monotonic()
    tables = TableReader(column, encoding, null_values)
    catalogue = check_items(tables.read(items, "item_id"), where=str(items))
    tables.check()
    model = load_encoder(encoder)
    vectors = item_vectors(catalogue, model, template, empty_text=empty_text, cache=cache)
    # `file:` reads no texts: a template there would claim what isn't so.
    texts = None if encoder.startswith("file:") else render(catalogue, template)
    facts = {
        "encoder": model.name,
        "fingerprint": model.fingerprint,
        "template": None if texts is None else list(parse_template(template)),
        "empty_text": None if texts is None else empty_text,
        "texts_sha256": None if texts is None else texts_sha256(texts),
    }
    write_vectors(out, catalogue["item_id"], vectors, facts, texts)
    seconds = round(time.monotonic() - start, 3)
    if as_json:
        shape = {"items": len(vectors), "dim": int(vectors.shape[1])}
        print(json.dumps({"out": str(out), **shape, **facts, "fingerprint": json.loads(model.fingerprint), "seconds": seconds}))
        return
    # Wishes are read by the encoder that made the vectors, where its name alone makes it again.
    again = texts is not None and not encoder.startswith(("lsa", "random", "join:")) and "?" not in encoder
    words = f"?words={encoder}" if again else ""
    print(f"{out}: {len(vectors):,} items x {vectors.shape[1]} by {model.name} in {seconds:.1f} s")
    print(f"in a model: --set 'encoder=file:{out}{words}'")
