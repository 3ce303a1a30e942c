"""``lexirec recommend`` and ``lexirec similar``: ask a trained model, for one person or for many."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import polars as pl
import typer

from lexirec.cli.tables import Columns, Encoding, NullValues, TableReader
from lexirec.cli.terminal import printable
from lexirec.data.ids import alike
from lexirec.errors import InputError

if TYPE_CHECKING:
    from lexirec.data.ids import IdMap
    from lexirec.models.contract import Recommender
    from lexirec.query import Query

NO_TITLE = "(no title)"
"""Of an item without one."""
Run = Annotated[Path, typer.Argument(help="A run folder, or what model.save wrote.")]
Count = Annotated[int, typer.Option("-k", "--top", min=1, help="How many items.")]
NewItems = Annotated[Path | None, typer.Option("--items", help="A table of new items (item_id, title, ...), added first.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")]


def recommend(
    run: Run,
    user: Annotated[str | None, typer.Option("--user", help="A user of the training log.")] = None,
    history: Annotated[str | None, typer.Option("--history", help="Item ids, oldest first, separated by commas.")] = None,
    intent: Annotated[str | None, typer.Option("--intent", help="A wish in words.")] = None,
    profile: Annotated[str | None, typer.Option("--profile", help="A description of the person in words; with --intent, one text.")] = None,
    alpha: Annotated[float | None, typer.Option("--alpha", help="Weight of the words against the person, 0 to 1.")] = None,
    users: Annotated[str | None, typer.Option("--users", help="Many at once: all, or a table with user_id; needs --out.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write a table: .csv, .tsv, .parquet or .jsonl.")] = None,
    k: Count = 10,
    seen: Annotated[bool, typer.Option("--seen", help="Also show items that the person already has.")] = False,
    candidates: Annotated[Path | None, typer.Option("--candidates", help="Only these: a table with item_id, or an id per line.")] = None,
    exclude: Annotated[Path | None, typer.Option("--exclude", help="Never these: a table with item_id, or an id per line.")] = None,
    where: Annotated[
        list[str], typer.Option("--where", help="Only items that meet it: 'price<50', 'brand=Acme', 'categories~garden'. Repeatable.")
    ] = [],  # noqa: B006 (typer reads the default)
    items: NewItems = None,
    column: Columns = [],  # noqa: B006 (typer reads the default)
    encoding: Encoding = "utf-8",
    null_values: NullValues = None,
    hybrid: Annotated[str | None, typer.Option("--hybrid", help="Fuse with BM25 over the items' texts: rrf or sum.")] = None,
    hybrid_weight: Annotated[
        float, typer.Option("--hybrid-weight", help="Share of BM25, 0 to 1; --alpha in its place if the model reads no words.")
    ] = 0.5,
    explain: Annotated[bool, typer.Option("--explain", help="Say what pulled each item up.")] = False,
    as_json: AsJson = False,
) -> None:
    """Recommend for a user, a history, a wish or a profile; or for many users into a file."""
    from lexirec.query import Query

    if not run.exists():
        _load(run)  # says that it is not there, and what is like it
    told = user is not None or history is not None or intent is not None or profile is not None
    if users is None and not told:
        raise InputError("nothing to ask with; give --user, --history, --intent or --profile, or --users all --out FILE")
    if alpha is not None and intent is None and profile is None:
        raise InputError("--alpha weighs words against the person, and there are none; add --intent or --profile")
    if users is not None and (user is not None or history is not None):
        raise InputError("--users asks for many; leave out --user and --history")
    if users is not None and (explain or as_json):
        raise InputError("--users writes a table; --explain and --json are for one person")
    if (users is None) != (out is None):
        raise InputError("--users and --out go together: --users all --out recommendations.csv")
    if out is not None:
        _check_out(out)
    tables = TableReader(column, encoding, null_values)
    model = _load(run, items, tables)
    if hybrid is not None:
        from lexirec.models.hybrid import Hybrid

        model = Hybrid(model, cast(Any, hybrid), weight=hybrid_weight)
    wanted: dict[str, Any] = {"k": k, "filter_seen": not seen, "candidates": _candidates(model, candidates, where, tables)}
    wanted["exclude"] = None if exclude is None else tables.ids(exclude, "item_id")
    names = None if users is None else model.users.ids.to_list() if users == "all" else tables.ids(Path(users), "user_id")
    tables.check()
    if out is not None and names is not None:
        _write(model, [Query(user_id=name, intent=intent, profile=profile, alpha=alpha) for name in names], out, wanted)
        return
    given = None if history is None else _listed(history, model.item_map)
    if given == []:
        raise InputError(f"--history {history!r} names no item; write item ids, separated by commas")
    query = Query(user_id=user, history=given, intent=intent, profile=profile, alpha=alpha)
    _answer(model, query, wanted, explain, as_json)


def _answer(model: "Recommender", query: "Query", wanted: dict[str, Any], explain: bool, as_json: bool) -> None:
    """The answer for one person, on stdout."""
    given = query.history or ()
    unknown, notes = [name for name in given if name not in model.item_map], []
    if unknown:
        like = alike(unknown[0], model.item_map.ids)
        notes.append(f"{len(unknown)} of {len(given)} history items are not in the catalogue ({', '.join(unknown[:3])}{like})")
    if query.user_id is not None and query.user_id not in model.users and (like := alike(query.user_id, model.users.ids)):
        notes.append(f"there is no user {query.user_id!r}{like}")
    found = model.recommend(query, **wanted)
    rows = []
    for row in _with_titles(model, found).iter_rows(named=True):
        entry: dict[str, Any] = {"rank": row["rank"], "item_id": row["item_id"], "title": row["title"], "score": round(row["score"], 6)}
        if explain:
            entry["because"] = model.explain(query, row["item_id"], k=3).to_dicts()
        rows.append(entry)
    basis = model.answered_by(query)
    if as_json:
        print(json.dumps({"answered_by": str(basis), "reason": basis.reason or None, "notes": notes, "items": rows}, ensure_ascii=False))
        return
    for note in notes:
        print(f"note: {printable(note)}", file=sys.stderr)
    print(f"answered by: {basis}{f' ({printable(basis.reason)})' if basis.reason else ''}")
    for entry in rows:
        print(f"{entry['rank']:>3}  {entry['score']:>9.4f}  {printable(entry['item_id'])}  {printable(entry['title'] or NO_TITLE)}")
        for why in entry.get("because", []):
            print(f"               {_because(why)}")


def _because(why: Mapping[str, Any]) -> str:
    """A reason in words: nearness to something of the history is a cosine, a shared attribute the part of the history that has it."""
    name = printable(why["title"] or why["name"])
    if why["kind"] == "history":
        return f"near {name} (cosine {why['weight']:.2f})"
    if why["kind"] == "attribute":
        return f"in common with {why['weight']:.0%} of the history: {name.replace('=', ' ', 1)}"
    return f"{why['kind']}: {name} ({why['weight']:.2f})"


def _write(model: "Recommender", queries: list["Query"], out: Path, wanted: dict[str, Any]) -> None:
    """The answers for many, as a table."""
    found = _with_titles(model, model.recommend(queries, **wanted)).drop("query")
    unknown = sum(query.user_id not in model.users for query in queries)
    if unknown:
        print(f"note: {unknown:,} of {len(queries):,} users are not in the log; they get what is popular", file=sys.stderr)
    from lexirec.files import atomic_file

    with atomic_file(out) as temporary:
        if out.suffix == ".parquet":
            found.write_parquet(temporary)
        elif out.suffix == ".jsonl":
            found.write_ndjson(temporary)
        else:
            found.write_csv(temporary, separator="\t" if out.suffix == ".tsv" else ",")
    print(f"{out}: {found.height:,} rows for {len(queries):,} users")


def similar(
    run: Run,
    item: Annotated[str, typer.Option("--item", help="Item ids, separated by commas.")],
    k: Count = 10,
    items: NewItems = None,
    column: Columns = [],  # noqa: B006 (typer reads the default)
    encoding: Encoding = "utf-8",
    null_values: NullValues = None,
    as_json: AsJson = False,
) -> None:
    """The items nearest to some in the model's own space."""
    tables = TableReader(column, encoding, null_values)
    model = _load(run, items, tables)
    tables.check()
    asked = _listed(item, model.item_map)
    if not asked:
        raise InputError(f"--item {item!r} names no item; write item ids, separated by commas")
    found = model.similar_items(asked, k=k)
    titles = _titles(model).rename({"item_id": "similar_item_id"})
    rows = found.join(titles, on="similar_item_id", how="left", maintain_order="left").to_dicts()
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        if row["rank"] == 1:
            print(f"like {printable(row['item_id'])}:")
        print(f"{row['rank']:>3}  {row['score']:>9.4f}  {printable(row['similar_item_id'])}  {printable(row['title'] or NO_TITLE)}")


def _listed(text: str, known: "IdMap") -> list[str]:
    """Ids with commas between them; a text that is an id itself, comma and all, is that one."""
    return [text] if text in known else [name.strip() for name in text.split(",") if name.strip()]


def _load(run: Path, items: Path | None = None, tables: TableReader | None = None) -> "Recommender":
    """The model of a run, checked by its manifest, or a saved one; with further items."""
    from lexirec.models import load_model
    from lexirec.runs import load_run

    of_a_run = any((run / name).exists() for name in ("result.json", "metrics.jsonl", "per_user.parquet")) or run.name.endswith(".partial")
    saved = (run / "model.safetensors").exists() and not of_a_run
    model = load_model(run) if saved else load_run(run)[0]
    return model if items is None or tables is None else model.add_items(tables.read(items, "item_id"), skip_known=True)


def _candidates(model: "Recommender", file: Path | None, where: list[str], tables: TableReader) -> list[str] | None:
    if file is None and not where:
        return None
    ids = model.items["item_id"]
    if where:
        from lexirec.data.where import matching

        ids = ids.filter(matching(model.items, where))
        if not len(ids):
            raise InputError(f"no item of the catalogue meets {' and '.join(map(repr, where))}; loosen a condition")
    if file is None:
        return ids.to_list()
    listed = tables.ids(file, "item_id")
    kept = set(ids.to_list())
    return [name for name in listed if name in kept] if where else listed


def _check_out(out: Path) -> None:
    if out.suffix not in (".csv", ".tsv", ".parquet", ".jsonl"):
        raise InputError(f"--out {out}: write a .csv, .tsv, .parquet or .jsonl file")


def _titles(model: "Recommender") -> pl.DataFrame:
    title = pl.col("title") if "title" in model.items.columns else pl.lit(None, dtype=pl.String).alias("title")
    return model.items.select("item_id", title)


def _with_titles(model: "Recommender", found: pl.DataFrame) -> pl.DataFrame:
    return found.join(_titles(model), on="item_id", how="left", maintain_order="left")


__all__ = ["recommend", "similar"]
