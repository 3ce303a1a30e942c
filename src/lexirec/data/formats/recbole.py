"""RecBole's atomic files."""

from pathlib import Path

import polars as pl

from lexirec import columns as c
from lexirec.data.formats.base import Tables, register
from lexirec.data.tables import read_lines
from lexirec.errors import InputError, nearest


@register("recbole", "*.inter", alone=True)
def recbole(path: Path, title: str | None = None) -> Tables:
    """X.inter (or X.train.inter, X.valid.inter, X.test.inter), X.item, X.user with typed headers; title=FIELD names the item's title."""
    folder = path if path.is_dir() else path.parent
    found = [path] if path.is_file() else sorted(folder.glob("*.inter"))
    stems = {p.name.removesuffix(".inter") for p in found}
    # In this order, never that of a set: events of one moment stay as the parts follow each other.
    parts = {s: part for part in ("train", "valid", "test") for s in sorted(stems) if s.rsplit(".", 1)[-1] == part and "." in s}
    if len(parts) == len(stems) and len({s.rsplit(".", 1)[0] for s in stems}) == 1:
        pieces = [_atomic(folder / f"{s}.inter").with_columns(pl.lit(part).alias(c.SPLIT)) for s, part in parts.items()]
        log, stem = pl.concat(pieces, how="diagonal_relaxed"), next(iter(parts)).rsplit(".", 1)[0]
    elif len(stems) == 1:
        stem = next(iter(stems))
        log = _atomic(folder / f"{stem}.inter")
    else:
        raise InputError(
            f"{folder} has {len(found)} .inter files ({', '.join(p.name for p in found[:6])}); give the path of the one to read"
        )
    item_file, user_file = folder / f"{stem}.item", folder / f"{stem}.user"
    items = _atomic(item_file) if item_file.is_file() else None
    if items is not None:
        candidates = [n for n in items.columns if n == c.TITLE or n.endswith(("_title", "_name")) or n == "name"]
        chosen = title or (c.TITLE if c.TITLE in candidates else candidates[0] if len(candidates) == 1 else None)
        if chosen is None or chosen not in items.columns:
            near = nearest(title, items.columns) if title else ""
            raise InputError(
                f"{item_file}: which field is the title? {title!r} is not there{near}; name one of {', '.join(items.columns)} with "
                "title=FIELD (lexirec data convert --title FIELD)"
            )
        words = pl.col(chosen).list.join(" ") if isinstance(items.schema[chosen], pl.List) else pl.col(chosen).cast(pl.String)
        items = items.with_columns(words.alias(chosen)).rename({chosen: c.TITLE})
    return Tables(log, items, _atomic(user_file) if user_file.is_file() else None)


def _atomic(path: Path) -> pl.DataFrame:
    """One atomic file: a header ``name:type`` separated by tabs; token, token_seq (split at spaces), float, float_seq."""
    header = _header(path)
    kinds = {}
    for field in header:
        name, colon, kind = field.rpartition(":")
        if not colon or kind not in ("token", "token_seq", "float", "float_seq"):
            raise InputError(f"{path}: the header field {field!r} has no type; RecBole's are name:token, :token_seq, :float or :float_seq")
        kinds[name] = kind
    frame = read_lines(path, "\t", list(kinds)).slice(1)
    made = []
    for name, kind in kinds.items():
        values = frame[name]
        values = pl.select(pl.when(values != "").then(values)).to_series().rename(name)
        if kind == "float":
            numbers = values.cast(pl.Float64, strict=False)
            if numbers.null_count() != values.null_count():
                bad = (values.is_not_null() & numbers.is_null()).arg_max() or 0
                raise InputError(f"{path}: line {bad + 2} holds {values[bad]!r} in {name}:float, which is no number; mend the line")
            values = numbers
        elif kind == "token_seq":
            values = values.str.split(" ")
        elif kind == "float_seq":
            values = values.str.split(" ").cast(pl.List(pl.Float64), strict=False)
        made.append(values)
    return pl.DataFrame(made)


def _header(path: Path) -> list[str]:
    """The first line of a tab-separated file."""
    if not path.is_file():
        raise InputError(f"{path} does not exist{nearest(path.name, [p.name for p in path.parent.glob('*')])}")
    with path.open("rb") as handle:
        line = handle.readline().decode("utf-8-sig", errors="replace").rstrip("\r\n")
    if not line:
        raise InputError(f"{path} is empty; fetch it again")
    return line.split("\t")
