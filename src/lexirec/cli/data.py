"""``lexirec data describe|check|convert``: look at data and bring it into the one layout."""

import functools
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from lexirec.errors import InputError, nearest

app = typer.Typer(no_args_is_help=True, help="Look at data, check it, and convert published dumps.")

Source = Annotated[Path, typer.Argument(help="A folder with interactions.* and items.*, one file of interactions, or a published dump.")]
FormatName = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="folder, file, movielens-100k, movielens-1m, movielens-csv, amazon-2014, amazon-2018, amazon-2023, yelp, steam or recbole; "
        "told from the files' names by default.",
    ),
]
Options = Annotated[
    list[str], typer.Option("--option", help="key=value for the format: encoding, separator, items, meta, title, reviews=true. Repeatable.")
]
Columns = Annotated[list[str], typer.Option("--column", help="ours=theirs, for example user_id=customer. Repeatable.")]
Encoding = Annotated[str | None, typer.Option("--encoding", help="Of CSV and TSV, for example cp1252.")]
NullValues = Annotated[
    str | None,
    typer.Option(
        "--null-values",
        help='Words for a missing value in CSV and TSV, with commas; "" for none. By default NULL, null, None, NaN, nan, N/A, n/a, #N/A.',
    ),
]
BadRows = Annotated[
    str | None, typer.Option("--bad-rows", help="Rows whose user, item or time is missing or can't be read: error (default) or drop.")
]
Meta = Annotated[str | None, typer.Option("--meta", help="Metadata file of an Amazon dump, where it does not lie beside the reviews.")]
Title = Annotated[str | None, typer.Option("--title", help="Field of a RecBole .item file that is the title.")]
Unknown = Annotated[str | None, typer.Option("--unknown-items", help="Events of items that the items table lacks: error, drop or add.")]
Items = Annotated[Path | None, typer.Option("--items", help="The table of items, where the source is one file of interactions.")]
ItemColumns = Annotated[
    str | None,
    typer.Option("--item-columns", help="Without a table of items: columns of the interactions that describe the item, with commas."),
]
ItemTable = Annotated[
    Path | None, typer.Option("--item-table", help="A further table of items (item_id, other columns), or its name in the folder.")
]
Catalogue = Annotated[str | None, typer.Option("--catalogue", help="all, or interacted: items with at least one event.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")]


def _pairs(values: list[str], option: str) -> dict[str, Any]:
    """``["a=1"]`` as ``{"a": "1"}``, with true and false as such."""
    made: dict[str, Any] = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals or not key:
            raise InputError(f"{option} is {value!r}; write key=value")
        made[key] = {"true": True, "false": False}.get(text.lower(), text)
    return made


def _words(text: str) -> list[str]:
    """``"a, b"`` as ``["a", "b"]``."""
    return [word.strip() for word in text.split(",") if word.strip()]


def _reading(function: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of reading; it gets ``read``, the keyword arguments of ``read_dataset``, in their place."""
    own = inspect.signature(function).parameters
    shared = inspect.signature(_read_arguments).parameters

    @functools.wraps(function)
    def command(**values: Any) -> None:
        function(read=_read_arguments(**{k: values.pop(k) for k in shared}), **values)

    shown = [*(p for p in own.values() if p.name != "read"), *shared.values()]
    command.__signature__ = inspect.Signature([p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in shown])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in shown}
    return command


def _read_arguments(
    format_name: FormatName = None,
    option: Options = [],  # noqa: B006 (typer reads the default)
    column: Columns = [],  # noqa: B006
    encoding: Encoding = None,
    null_values: NullValues = None,
    bad_rows: BadRows = None,
    meta: Meta = None,
    title: Title = None,
    unknown_items: Unknown = None,
    items: Items = None,
    item_columns: ItemColumns = None,
    item_table: ItemTable = None,
    catalogue: Catalogue = None,
) -> dict[str, Any]:
    named = {
        "encoding": encoding,
        "null_values": None if null_values is None else _words(null_values),
        "bad_rows": bad_rows,
        "meta": meta,
        "title": title,
        "items": None if items is None else str(items),
    }
    arguments: dict[str, Any] = {**_pairs(option, "--option"), **{k: v for k, v in named.items() if v is not None}}
    columns = _pairs(column, "--column")
    if columns:
        arguments["columns"] = columns
    if item_columns is not None:
        arguments["item_columns"] = _words(item_columns)
    return arguments | {"format": format_name, "unknown_items": unknown_items, "item_table": item_table, "catalogue": catalogue}


def numbered(n: int, what: str) -> str:
    """``"1 warning"``, ``"2 warnings"``."""
    return f"{n} {what}{'' if n == 1 else 's'}"


@app.command()
@_reading
def describe(
    source: Source,
    read: dict[str, Any],
    as_json: AsJson = False,
) -> None:
    """Counts, lengths, repeats, time range, text coverage, head and tail, hash."""
    from lexirec.data.description import describe as look
    from lexirec.data.readers import read_dataset

    facts = look(read_dataset(source, **read))
    if as_json:
        print(json.dumps(facts, allow_nan=False))
        return
    for name, value in _lines(facts):
        print(f"{name:<28}{value}")


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The facts as lines of text."""

    def spread(values: dict[str, float]) -> str:
        return f"mean {values['mean']:.2f}, median {values['median']:g}, min {values['min']:,}, max {values['max']:,}"

    times, head = facts["timestamps"], facts["head_items"]
    span = (
        f"{times['first_utc'] or times['first']} to {times['last_utc'] or times['last']} ({times['known']:,} known)"
        if times["known"]
        else "none"
    )
    lines = [
        ("dataset", facts["name"]),
        ("users", f"{facts['users']:,}"),
        ("items", f"{facts['items']:,} ({facts['items_with_interactions']:,} with interactions)"),
        ("interactions", f"{facts['interactions']:,}"),
        ("density", f"{facts['density']:.4%}"),
        ("events per user", spread(facts["user_length"])),
        ("events per item", spread(facts["item_count"])),
        ("repeated user-item pairs", f"{facts['repeated_pairs']:,}"),
        ("time", span),
        ("order within a user", times["order"]),
        ("head", f"{head['items']:,} items ({head['share_of_items']:.1%}) hold 80 % of the events"),
    ]
    if "rating" in facts:
        rating = facts["rating"]
        known = f"mean {rating['mean']:.2f}, {rating['min']:g} to {rating['max']:g}, " if rating["known"] else ""
        lines.append(("rating", f"{known}{rating['known']:,} known"))
    if "split" in facts:
        lines.append(("split column", ", ".join(f"{part} {n:,}" for part, n in facts["split"].items())))
    lines += [(f"items.{name}", f"{cover['share']:.1%} filled, {cover['type']}") for name, cover in facts["text"].items()]
    return [*lines, ("hash", facts["content_hash"])]


@app.command()
@_reading
def check(
    source: Source,
    read: dict[str, Any],
    split: Annotated[str | None, typer.Option("--split", help="Look for leaks of this split too, for example leave-one-out.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if there is a warning.")] = False,
    as_json: AsJson = False,
) -> None:
    """What deserves a look: leaks, texts, times, repeats. Data that can't be read at all end with exit code 2."""
    from lexirec.data.quality import problems
    from lexirec.data.readers import read_dataset
    from lexirec.data.splits import split_dataset

    data = read_dataset(source, **read)
    found = problems(data, None if split is None else split_dataset(data, split))
    if as_json:
        print(json.dumps({"name": data.name, "content_hash": data.content_hash, "split": split, "problems": [p.to_dict() for p in found]}))
    else:
        for problem in found:
            print(f"{problem.level}: {problem.place}: {problem.finding}\n    {problem.cure}")
        warnings_ = sum(p.level == "warning" for p in found)
        print(f"{data.name}: {numbered(warnings_, 'warning')}, {numbered(len(found) - warnings_, 'piece')} of advice")
    if strict and any(p.level == "warning" for p in found):
        raise typer.Exit(1)


@app.command()
@_reading
def convert(
    source: Source,
    read: dict[str, Any],
    out: Annotated[Path, typer.Option("--out", help="The folder to write; it must not exist.")],
    min_rating: Annotated[float | None, typer.Option("--min-rating", help="Keep events rated at least this.")] = None,
    duplicates: Annotated[
        str,
        typer.Option("--duplicates", help="Repeated user-item pairs: all, first, last, error, consecutive, consecutive-exact or exact."),
    ] = "all",
    k_core_user: Annotated[int, typer.Option("--k-core-user", min=0, help="Least number of events of a user.")] = 0,
    k_core_item: Annotated[int, typer.Option("--k-core-item", min=0, help="Least number of events of an item.")] = 0,
    core_mode: Annotated[str, typer.Option("--core-mode", help="iterated, single-pass (users, then items) or simultaneous.")] = "iterated",
    reviews: Annotated[bool, typer.Option("--reviews", help="Keep the reviews' text (Amazon, Yelp, Steam).")] = False,
    clean_html: Annotated[bool, typer.Option("--clean-html", help="Take HTML tags and entities out of items' texts and reviews.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write interactions.parquet and items.parquet, after rating filter, duplicates, k-core, catalogue; whole or not at all."""
    from lexirec.data.convert import convert_dataset

    catalogue = read.pop("catalogue")  # after the filters, not before
    if reviews:
        read["reviews"] = True
    if catalogue not in (None, "all", "interacted"):
        raise InputError(f"--catalogue is {catalogue!r}; choose all or interacted{nearest(str(catalogue), ('all', 'interacted'))}")
    facts = convert_dataset(
        source,
        out,
        min_rating=min_rating,
        duplicates=duplicates,
        k_core_user=k_core_user,
        k_core_item=k_core_item,
        core_mode=core_mode,
        interacted=catalogue == "interacted",
        clean_html=clean_html,
        **read,
    )
    if as_json:
        print(json.dumps(facts, allow_nan=False))
        return
    print(f"{out}: {facts['users']:,} users, {facts['items']:,} items, {facts['interactions']:,} interactions")
