"""MovieLens, in its three layouts."""

from pathlib import Path
from typing import Final

import polars as pl

from lexirec import columns as c
from lexirec.data.formats.base import Tables, in_folder, need_columns, need_file, register
from lexirec.data.tables import read_lines, read_table

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


@register("movielens-100k", "u.data", "u.item", alone=True)
def movielens_100k(path: Path) -> Tables:
    """u.data (tabs), u.item (| and 19 genre flags), u.user."""
    log = read_lines(need_file(path, "u.data"), "\t", [c.USER_ID, c.ITEM_ID, c.RATING, c.TIMESTAMP])
    flags = [f"genre{i}" for i in range(len(_ML100K_GENRES))]
    movies = read_lines(need_file(path, "u.item"), "|", [c.ITEM_ID, "name", "release_date", "video_date", "url", *flags])
    genres = pl.concat_list(
        [pl.when(pl.col(f) == "1").then(pl.lit(g)) for f, g in zip(flags, _ML100K_GENRES, strict=True)]
    ).list.drop_nulls()
    items = movies.select(pl.col(c.ITEM_ID), *_movie(pl.col("name")), genres.alias("categories"))
    people = in_folder(path, "u.user", need=False)
    users = None if people is None else read_lines(people, "|", [c.USER_ID, "age", "gender", "occupation", "zip_code"])
    return Tables(log, items, users)


@register("movielens-1m", "ratings.dat", "movies.dat", alone=True)
def movielens_1m(path: Path) -> Tables:
    """ratings.dat, movies.dat and users.dat, separated by :: (MovieLens 1M and 10M)."""
    log = read_lines(need_file(path, "ratings.dat"), "::", [c.USER_ID, c.ITEM_ID, c.RATING, c.TIMESTAMP])
    movies = read_lines(need_file(path, "movies.dat"), "::", [c.ITEM_ID, "name", "genres"])
    items = movies.select(pl.col(c.ITEM_ID), *_movie(pl.col("name")), _genres(pl.col("genres")))
    people = in_folder(path, "users.dat", need=False)
    users = None if people is None else read_lines(people, "::", [c.USER_ID, "gender", "age", "occupation", "zip_code"])
    return Tables(log, items, users)


@register("movielens-csv", "ratings.csv|ratings.csv.gz", "movies.csv|movies.csv.gz")
def movielens_csv(path: Path) -> Tables:
    """ratings.csv and movies.csv with a header (MovieLens 20M, 25M, 32M, latest)."""
    log = read_table(need_file(path, "ratings.csv", "ratings.csv.gz"))
    movies = read_table(need_file(path, "movies.csv", "movies.csv.gz"))
    need_columns(log, "ratings.csv", ("userId", "movieId", "rating", "timestamp"))
    need_columns(movies, "movies.csv", ("movieId", "title", "genres"))
    items = movies.select(pl.col("movieId").alias(c.ITEM_ID), *_movie(pl.col("title")), _genres(pl.col("genres")))
    return Tables(log.rename({"userId": c.USER_ID, "movieId": c.ITEM_ID}), items)
