"""Published dumps. Each format is one function that gives raw tables, registered under its name with :func:`register`.

A new format is one function: tables in, our column names out; types, checks and order are the business of :mod:`lexirec.data.checks`.
Texts lose HTML entities and runs of white space; categories become lists, each path one entry with its levels joined by " > ".
"""

import html
import inspect
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

import polars as pl

from lexirec import columns as c
from lexirec.data.messages import warn
from lexirec.data.tables import is_table, read_json_lines, read_lines, read_table
from lexirec.errors import InputError, nearest


@dataclass(frozen=True)
class Tables:
    """Raw tables of one source: events, catalogue and people (``None`` where the source has none), and the format's name."""

    interactions: pl.DataFrame
    items: pl.DataFrame | None = None
    users: pl.DataFrame | None = None
    format: str = ""


@dataclass(frozen=True)
class Format:
    """A way to read a source.

    Attributes:
        name: as given to ``format=``.
        function: ``(path, **options) -> Tables``; its docstring's first line describes the layout.
        fits: whether a folder's file names (or one file's name) look like this format.
    """

    name: str
    function: Callable[..., Tables]
    fits: Callable[[Sequence[str]], bool]

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options that the format takes."""
        return tuple(inspect.signature(self.function).parameters)[1:]

    @property
    def layout(self) -> str:
        """One line on the files."""
        return (self.function.__doc__ or "").strip().split("\n")[0]

    def read(self, path: Path, **options: Any) -> Tables:
        """Read the source at ``path``."""
        return replace(self.function(path, **options), format=self.name)


FORMATS: Final[dict[str, Format]] = {}
"""Every format by its name."""


def register(name: str, *patterns: str, without: str = "") -> Callable[[Callable[..., Tables]], Callable[..., Tables]]:
    """Register a format; it is told by a folder in which every pattern (``a|b``: either) matches a file and ``without`` matches none."""

    def fits(names: Sequence[str]) -> bool:
        def some(pattern: str) -> bool:
            return any(fnmatch(n, p) for n in names for p in pattern.split("|"))

        return bool(patterns) and all(some(p) for p in patterns) and not (without and some(without))

    def add(function: Callable[..., Tables]) -> Callable[..., Tables]:
        FORMATS[name] = Format(name, function, fits)
        return function

    return add


def detect_format(path: Path) -> str:
    """The one format that fits the file names.

    Raises:
        InputError: if no format fits, or several do.
    """
    if path.is_dir():
        names = sorted(p.name for p in path.iterdir())
        fitting = [f.name for f in FORMATS.values() if f.name != "file" and f.fits(names)]
        if "folder" in fitting:
            return "folder"
    else:
        names = [path.name]
        fitting = [f.name for f in FORMATS.values() if f.name not in ("folder", "file") and _main_file(f, path.name)]
        if not fitting and is_table(path):
            return "file"
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") or "nothing"
    if fitting:
        raise InputError(f"{path} could be {' or '.join(fitting)} ({listed}); name the format (lexirec data convert --format NAME)")
    near = nearest("interactions", [n.split(".")[0] for n in names])
    raise InputError(
        f"{path} holds {listed}: no interactions.parquet, .csv, .tsv or .jsonl{near}, and no known dump; rename the files, or name "
        f"the format: {', '.join(FORMATS)}"
    )


_MAIN_FILES: Final = {
    "u.data": "movielens-100k",
    "ratings.dat": "movielens-1m",
    "reviews_*.json*": "amazon-2014",
    "yelp_academic_dataset_review.json*": "yelp",
    "steam_reviews.json*": "steam",
    "*.inter": "recbole",
}


def _main_file(candidate: Format, name: str) -> bool:
    return any(owner == candidate.name and fnmatch(name, pattern) for pattern, owner in _MAIN_FILES.items())


def _in(path: Path, *patterns: str, need: bool = True) -> Path | None:
    """The one file of the folder ``path`` (or of the folder of the file ``path``) that fits a pattern."""
    folder = path if path.is_dir() else path.parent
    for pattern in patterns:
        found = sorted(p for p in folder.glob(pattern) if p.is_file())
        if len(found) > 1:
            raise InputError(
                f"{folder} has {len(found)} files like {pattern} ({', '.join(p.name for p in found[:4])}); give the path of the one to read"
            )
        if found:
            return found[0]
    if need:
        names = [p.name for p in folder.iterdir()]
        raise InputError(
            f"{folder} has no {' or '.join(patterns)}{nearest(patterns[0], names)}; it holds {', '.join(sorted(names)[:8]) or 'nothing'}"
        )
    return None


# --- our own layout -----------------------------------------------------------------------------------------------------------------------


@register("folder", "interactions.*")
def folder(path: Path, encoding: str = "utf-8", separator: str | None = None) -> Tables:
    """A folder with interactions.{parquet,csv,tsv,jsonl} and items.{...}, users.{...} where there are any."""
    tables: dict[str, pl.DataFrame | None] = {}
    for stem in ("interactions", "items", "users"):
        found = sorted(p for p in path.glob(f"{stem}.*") if is_table(p)) if path.is_dir() else []
        if len(found) > 1:
            raise InputError(f"{path} has {', '.join(p.name for p in found)}: which is the table of {stem}? Keep one")
        if not found and stem == "interactions":
            names = sorted(p.name for p in path.iterdir()) if path.is_dir() else [path.name]
            near = nearest("interactions", [n.split(".")[0] for n in names])
            raise InputError(
                f"{path} has no interactions.parquet, .csv, .tsv or .jsonl{near}; it holds {', '.join(names[:8]) or 'nothing'}"
            )
        tables[stem] = read_table(found[0], encoding=encoding, separator=separator) if found else None
    return Tables(tables["interactions"], tables["items"], tables["users"])  # type: ignore[arg-type]


@register("file")
def file(
    path: Path, items: str | None = None, encoding: str = "utf-8", separator: str | None = None, names: Sequence[str] | None = None
) -> Tables:
    """One table of interactions; items=PATH names the table of items, names=[...] the columns of a file without header."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the path of one table, or the format 'folder'")
    log = read_table(path, encoding=encoding, separator=separator, names=names)
    return Tables(log, read_table(Path(items), encoding=encoding, separator=separator) if items else None)


# --- MovieLens ----------------------------------------------------------------------------------------------------------------------------

_ML100K_GENRES: Final = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)


def _movie(title: pl.Expr) -> list[pl.Expr]:
    """``Toy Story (1995)`` as title and year."""
    pattern = r"\s*\((\d{4})\)\s*$"
    return [title.str.replace(pattern, "").str.strip_chars().alias(c.TITLE), title.str.extract(pattern).cast(pl.Int32).alias("year")]


def _genres(values: pl.Expr) -> pl.Expr:
    return pl.when(values.is_not_null() & ~values.is_in(["(no genres listed)", ""])).then(values.str.split("|")).alias("categories")


@register("movielens-100k", "u.data", "u.item")
def movielens_100k(path: Path) -> Tables:
    """u.data (tabs), u.item (| and 19 genre flags), u.user."""
    log = read_lines(_need(path, "u.data"), "\t", [c.USER_ID, c.ITEM_ID, c.RATING, c.TIMESTAMP])
    flags = [f"genre{i}" for i in range(len(_ML100K_GENRES))]
    movies = read_lines(_need(path, "u.item"), "|", [c.ITEM_ID, "name", "release_date", "video_date", "url", *flags])
    genres = pl.concat_list(
        [pl.when(pl.col(f) == "1").then(pl.lit(g)) for f, g in zip(flags, _ML100K_GENRES, strict=True)]
    ).list.drop_nulls()
    items = movies.select(pl.col(c.ITEM_ID), *_movie(pl.col("name")), genres.alias("categories"))
    people = _in(path, "u.user", need=False)
    users = None if people is None else read_lines(people, "|", [c.USER_ID, "age", "gender", "occupation", "zip_code"])
    return Tables(log, items, users)


@register("movielens-1m", "ratings.dat", "movies.dat")
def movielens_1m(path: Path) -> Tables:
    """ratings.dat, movies.dat and users.dat, separated by :: (MovieLens 1M and 10M)."""
    log = read_lines(_need(path, "ratings.dat"), "::", [c.USER_ID, c.ITEM_ID, c.RATING, c.TIMESTAMP])
    movies = read_lines(_need(path, "movies.dat"), "::", [c.ITEM_ID, "name", "genres"])
    items = movies.select(pl.col(c.ITEM_ID), *_movie(pl.col("name")), _genres(pl.col("genres")))
    people = _in(path, "users.dat", need=False)
    users = None if people is None else read_lines(people, "::", [c.USER_ID, "gender", "age", "occupation", "zip_code"])
    return Tables(log, items, users)


@register("movielens-csv", "ratings.csv|ratings.csv.gz", "movies.csv|movies.csv.gz")
def movielens_csv(path: Path) -> Tables:
    """ratings.csv and movies.csv with a header (MovieLens 20M, 25M, 32M, latest)."""
    log = read_table(_need(path, "ratings.csv", "ratings.csv.gz"))
    movies = read_table(_need(path, "movies.csv", "movies.csv.gz"))
    _columns(log, "ratings.csv", ("userId", "movieId", "rating", "timestamp"))
    _columns(movies, "movies.csv", ("movieId", "title", "genres"))
    items = movies.select(pl.col("movieId").alias(c.ITEM_ID), *_movie(pl.col("title")), _genres(pl.col("genres")))
    return Tables(log.rename({"userId": c.USER_ID, "movieId": c.ITEM_ID}), items)


def _need(path: Path, *patterns: str) -> Path:
    if path.is_file() and any(fnmatch(path.name, p) for p in patterns):
        return path
    return _in(path, *patterns)  # type: ignore[return-value]


def _columns(frame: pl.DataFrame, file: str, names: Iterable[str]) -> None:
    for name in names:
        if name not in frame.columns:
            raise InputError(
                f"{file}: column {name!r} is missing{nearest(name, frame.columns)}; the columns are {', '.join(map(repr, frame.columns))}"
            )


# --- texts of the review dumps ------------------------------------------------------------------------------------------------------------


def _clean(values: pl.Series) -> pl.Series:
    """Without HTML entities and runs of white space; empty text becomes null."""
    values = values.cast(pl.String)
    entity = values.str.contains("&", literal=True).fill_null(False)
    if entity.any():
        decoded = pl.Series([html.unescape(v) for v in values.filter(entity).to_list()], dtype=pl.String)
        values = values.scatter(entity.arg_true(), decoded)
    values = values.str.replace_all(r"\s+", " ").str.strip_chars()
    return pl.select(pl.when(values != "").then(values)).to_series().rename(values.name)


def _parts(value: str | None) -> list[Any]:
    """A field that is text or the JSON of a list, as a list."""
    if not value:
        return []
    if value.startswith("["):
        try:
            made = json.loads(value)
        except ValueError:
            return [value]
        return made if isinstance(made, list) else [value]
    return [value]


def _tidy(text: Any) -> str:
    return " ".join(html.unescape(str(text)).split())


def _paths(values: pl.Series) -> pl.Series:
    """Category paths: a list of lists is several paths, a plain list one."""

    def path(levels: Iterable[Any]) -> str:
        return " > ".join(t for t in (_tidy(level) for level in levels if level is not None) if t)

    made = []
    for value in values.to_list():
        parts = _parts(value)
        paths = [path(p) for p in parts] if parts and all(isinstance(p, list) for p in parts) else [path(parts)]
        made.append([p for p in paths if p] or None)
    return pl.Series("categories", made, dtype=pl.List(pl.String))


def _labels(values: pl.Series, name: str) -> pl.Series:
    """A list of words, such as genres."""
    made = [[t for t in (_tidy(p) for p in _parts(v)) if t] or None for v in values.to_list()]
    return pl.Series(name, made, dtype=pl.List(pl.String))


def _joined(values: pl.Series, name: str) -> pl.Series:
    """Paragraphs joined to one text."""
    return pl.Series(name, [" ".join(t for t in (_tidy(p) for p in _parts(v)) if t) or None for v in values.to_list()], dtype=pl.String)


def _one_row(items: pl.DataFrame, file: str) -> pl.DataFrame:
    """Drop rows without id and, saying so, second rows of one item: the dumps are known to have both."""
    items = items.filter(pl.col(c.ITEM_ID).is_not_null() & (pl.col(c.ITEM_ID) != ""))
    kept = items.unique(c.ITEM_ID, keep="first", maintain_order=True)
    if kept.height < items.height:
        warn(f"{file}: {items.height - kept.height:,} of {items.height:,} rows repeat an item id; the first row of each is kept")
    return kept


# --- Amazon -------------------------------------------------------------------------------------------------------------------------------


def _amazon_files(path: Path, meta: str | None, reviews_like: Sequence[str]) -> tuple[Path, Path | None]:
    """The review file and the metadata file of the same category beside it."""
    if path.is_dir():
        found = sorted({p for pattern in reviews_like for p in path.glob(pattern) if p.is_file() and not p.name.startswith("meta_")})
        if len(found) != 1:
            listed = ", ".join(p.name for p in found[:6])
            raise InputError(f"{path} has {len(found)} review files{f' ({listed})' if found else ''}; give the path of the one to read")
        path = found[0]
    if meta is not None:
        return path, Path(meta)
    stem = path.name.removeprefix("reviews_").split(".")[0].removesuffix("_5")
    return path, _in(path, f"meta_{stem}.json*", need=False)


def _amazon(path: Path, meta: Path | None, names: dict[str, str], texts: dict[str, str], milliseconds: bool) -> Tables:
    """Reviews and metadata under our names. ``names``, ``texts``: field of the dump -> column, for events and for plain item texts."""
    log = read_json_lines(path, list(names)).rename(names)
    _some(log, path, names)
    for name in (c.REVIEW, "summary"):
        if name in log.columns:
            log = log.with_columns(_clean(log[name]))
    if milliseconds:
        # Whole seconds as everywhere else; the stable sort keeps the order of events within one second.
        log = log.with_columns(pl.col(c.TIMESTAMP).cast(pl.Int64, strict=False)).sort(c.TIMESTAMP, maintain_order=True)
        log = log.with_columns(pl.col(c.TIMESTAMP) // 1000)
    if meta is None:
        warn(
            f"{path}: there is no metadata file meta_*.json beside it, so items have no titles; name it with meta=PATH"
            " (lexirec data convert --meta PATH)"
        )
        return Tables(log)
    fields = [*texts, "categories", "category", "description", "price"]
    raw = read_json_lines(meta, list(dict.fromkeys(fields)))
    _some(raw, meta, texts)
    items = pl.DataFrame([_clean(raw[theirs]).rename(ours) for theirs, ours in texts.items()])
    paths = raw["categories"] if raw["categories"].null_count() < raw.height else raw["category"]
    items = items.with_columns(_paths(paths), _joined(raw["description"], "description"), _clean(raw["price"]).alias("price"))
    return Tables(log, _one_row(items, meta.name))


def _some(frame: pl.DataFrame, path: Path, names: dict[str, str]) -> None:
    """Refuse a dump of another edition: a needed field that no line has."""
    for theirs, ours in names.items():
        column = ours if ours in frame.columns else theirs
        if ours in (c.USER_ID, c.ITEM_ID) and frame[column].null_count() == frame.height:
            raise InputError(
                f"{path}: no line has the field {theirs!r}; the file is of another edition or kind, name the format"
                " (lexirec data convert --format NAME)"
            )


def _with_reviews(names: dict[str, str], reviews: bool) -> dict[str, str]:
    return {theirs: ours for theirs, ours in names.items() if reviews or ours not in (c.REVIEW, "summary")}


_AMAZON: Final = {
    "reviewerID": c.USER_ID,
    "asin": c.ITEM_ID,
    "unixReviewTime": c.TIMESTAMP,
    "overall": c.RATING,
    "reviewText": c.REVIEW,
    "summary": "summary",
}


@register("amazon-2014", "reviews_*.json*")
def amazon_2014(path: Path, meta: str | None = None, reviews: bool = False) -> Tables:
    """reviews_X.json(.gz) or reviews_X_5.json(.gz) and meta_X.json(.gz) in JSON or Python notation."""
    log, items = _amazon_files(path, meta, ("reviews_*.json*",))
    return _amazon(log, items, _with_reviews(_AMAZON, reviews), {"asin": c.ITEM_ID, "title": c.TITLE, "brand": "brand"}, milliseconds=False)


@register("amazon-2018", "*.json|*.json.gz", "meta_*.json|meta_*.json.gz", without="reviews_*.json*|yelp_*|*.jsonl*")
def amazon_2018(path: Path, meta: str | None = None, reviews: bool = False) -> Tables:
    """X.json(.gz) or X_5.json(.gz) and meta_X.json(.gz)."""
    log, items = _amazon_files(path, meta, ("*.json", "*.json.gz"))
    texts = {"asin": c.ITEM_ID, "title": c.TITLE, "brand": "brand", "main_cat": "main_category"}
    return _amazon(log, items, _with_reviews(_AMAZON, reviews), texts, milliseconds=False)


@register("amazon-2023", "*.jsonl|*.jsonl.gz", "meta_*.jsonl|meta_*.jsonl.gz")
def amazon_2023(path: Path, meta: str | None = None, reviews: bool = False) -> Tables:
    """X.jsonl(.gz) and meta_X.jsonl(.gz); items are parent_asin, milliseconds become seconds."""
    log, items = _amazon_files(path, meta, ("*.jsonl", "*.jsonl.gz"))
    names = {
        "user_id": c.USER_ID,
        "parent_asin": c.ITEM_ID,
        "timestamp": c.TIMESTAMP,
        "rating": c.RATING,
        "text": c.REVIEW,
        "title": "summary",
    }
    texts = {"parent_asin": c.ITEM_ID, "title": c.TITLE, "store": "brand", "main_category": "main_category"}
    return _amazon(log, items, _with_reviews(names, reviews), texts, milliseconds=True)


# --- Yelp, Steam --------------------------------------------------------------------------------------------------------------------------


@register("yelp", "yelp_academic_dataset_review.json*", "yelp_academic_dataset_business.json*")
def yelp(path: Path, reviews: bool = False) -> Tables:
    """yelp_academic_dataset_review.json and yelp_academic_dataset_business.json (.gz)."""
    names = {"user_id": c.USER_ID, "business_id": c.ITEM_ID, "date": c.TIMESTAMP, "stars": c.RATING} | (
        {"text": c.REVIEW} if reviews else {}
    )
    source = _need(path, "yelp_academic_dataset_review.json*")
    log = read_json_lines(source, list(names)).rename(names)
    _some(log, source, names)
    if reviews:
        log = log.with_columns(_clean(log[c.REVIEW]))
    places = _need(path, "yelp_academic_dataset_business.json*")
    raw = read_json_lines(places, ["business_id", "name", "categories", "city", "state"])
    _some(raw, places, {"business_id": c.ITEM_ID})
    labels = raw["categories"].str.split(", ")
    items = pl.DataFrame(
        [
            raw["business_id"].rename(c.ITEM_ID),
            _clean(raw["name"]).rename(c.TITLE),
            labels.rename("categories"),
            _clean(raw["city"]),
            _clean(raw["state"]),
        ]
    )
    return Tables(log, _one_row(items, places.name))


@register("steam", "steam_reviews.json*|steam_new.json*", "steam_games.json*")
def steam(path: Path, reviews: bool = False) -> Tables:
    """steam_reviews.json(.gz) and steam_games.json(.gz) in Python notation; a user is a username."""
    names = {"username": c.USER_ID, "product_id": c.ITEM_ID, "date": c.TIMESTAMP, "hours": "hours"} | (
        {"text": c.REVIEW} if reviews else {}
    )
    source = _need(path, "steam_reviews.json*", "steam_new.json*")
    log = read_json_lines(source, list(names)).rename(names)
    _some(log, source, names)
    nameless = log[c.USER_ID].is_null() | (log[c.USER_ID] == "")
    if nameless.any():
        warn(f"{source.name}: {int(nameless.sum()):,} of {log.height:,} reviews have no username; they are dropped")
        log = log.filter(~nameless)
    if reviews:
        log = log.with_columns(_clean(log[c.REVIEW]))
    games = _need(path, "steam_games.json*")
    raw = read_json_lines(games, ["id", "app_name", "title", "genres", "tags", "developer", "publisher", "price", "release_date"])
    _some(raw, games, {"id": c.ITEM_ID})
    title = _clean(raw["app_name"]).to_frame("a").with_columns(_clean(raw["title"]).alias("t")).select(pl.coalesce("a", "t").alias(c.TITLE))
    items = pl.DataFrame(
        [
            raw["id"].rename(c.ITEM_ID),
            title[c.TITLE],
            _labels(raw["genres"], "categories"),
            _labels(raw["tags"], "tags"),
            *(_clean(raw[name]) for name in ("developer", "publisher", "price", "release_date")),
        ]
    )
    return Tables(log, _one_row(items, games.name))


# --- RecBole ------------------------------------------------------------------------------------------------------------------------------


@register("recbole", "*.inter")
def recbole(path: Path, title: str | None = None) -> Tables:
    """X.inter (or X.train.inter, X.valid.inter, X.test.inter), X.item, X.user with typed headers; title=FIELD names the item's title."""
    folder = path if path.is_dir() else path.parent
    found = [path] if path.is_file() else sorted(folder.glob("*.inter"))
    stems = {p.name.removesuffix(".inter") for p in found}
    parts = {s: s.rsplit(".", 1)[1] for s in stems if s.rsplit(".", 1)[-1] in ("train", "valid", "test")}
    if len(parts) == len(stems) and len({s.rsplit(".", 1)[0] for s in stems}) == 1:
        pieces = [_atomic(folder / f"{s}.inter").with_columns(pl.lit(part).alias(c.SPLIT)) for s, part in parts.items()]
        log, stem = pl.concat(pieces, how="diagonal_relaxed"), next(iter(stems)).rsplit(".", 1)[0]
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
