"""Profiles: what an item is and what a person likes, in a few sentences each, several versions of both.

    <folder>/items.parquet    item_id, profile, profile_1 .. profile_T, and raw where the catalogue has words of its own
            /users.parquet    user_id, profile, profile_1 .. profile_T
            /profiles.json    data set, split, content hash, writer, model name, number of versions; never a key

They are derived from interactions, so they are written from a :class:`~lexirec.data.dataset.TrainSet` and belong to that one: reading
compares the content hash.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from lexirec import columns as c
from lexirec.data.dataset import TrainSet
from lexirec.data.messages import warn
from lexirec.data.mixing import domain_part
from lexirec.errors import InputError
from lexirec.files import atomic_folder, read_json, sha256_file, write_json

PROFILE = "profile"
RAW = "raw"
FORMAT = 1


class OtherPartError(InputError):
    """Profiles were written from another training part than the one at hand."""


def version_column(version: int) -> str:
    """Column of a version: 0 is the profile itself, 1 to T are its rephrasings.

    >>> [version_column(v) for v in range(3)]
    ['profile', 'profile_1', 'profile_2']
    """
    return PROFILE if version == 0 else f"{PROFILE}_{version}"


@dataclass(frozen=True, eq=False)
class Profiles:
    """Texts of all items and users of a training part, in index order.

    Attributes:
        items: ``item_id``, ``profile``, ``profile_1`` .. ``profile_T``, and ``raw`` (the item's own metadata in one text) if there is any.
        users: ``user_id``, ``profile``, ``profile_1`` .. ``profile_T``.
        facts: what made them (writer, model name, how many entities fell back, ...), for the record.

    No text is null or blank.

    Raises:
        InputError: if a column is missing, the two frames have different numbers of versions, or a text is blank.
    """

    items: pl.DataFrame
    users: pl.DataFrame
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = []
        for frame, key in ((self.items, c.ITEM_ID), (self.users, c.USER_ID)):
            if key not in frame.columns or PROFILE not in frame.columns:
                raise InputError(f"profiles need the columns {key} and {PROFILE}; there are {', '.join(frame.columns)}")
            found = sorted(int(match[1]) for name in frame.columns if (match := re.fullmatch(rf"{PROFILE}_(\d+)", name)))
            if found != list(range(1, len(found) + 1)):
                raise InputError(f"versions of the profiles are numbered {found}; expected 1, 2, ...")
            counts.append(len(found))
            for name in (PROFILE, *(version_column(v) for v in found)):
                blank = frame[name].is_null() | (frame[name].str.strip_chars() == "")
                if blank.any():
                    raise InputError(f"{name} of {key} {frame.filter(blank)[key][0]!r} is blank ({int(blank.sum()):,} in all)")
        if counts[0] != counts[1]:
            raise InputError(f"items have {counts[0]} rephrased versions and users {counts[1]}; write both with the same number")

    @property
    def n_versions(self) -> int:
        """Rephrased versions beside the profile itself, ``T``."""
        return sum(name.startswith(f"{PROFILE}_") for name in self.users.columns)

    def item_texts(self, version: int = 0) -> list[str]:
        """Texts of the items in index order; version 0 is the profile."""
        return self.items[version_column(version)].to_list()

    def user_texts(self, version: int = 0) -> list[str]:
        """Texts of the users in index order; version 0 is the profile."""
        return self.users[version_column(version)].to_list()


def frames(
    train: TrainSet, item_texts: Sequence[list[str]], user_texts: Sequence[list[str]], raw: list[str] | None = None, **facts: Any
) -> Profiles:
    """Profiles of a training part from lists of texts: one list per version, each in index order."""
    items = pl.DataFrame({c.ITEM_ID: train.items[c.ITEM_ID], **{version_column(v): texts for v, texts in enumerate(item_texts)}})
    if raw is not None and any(raw):
        items = items.with_columns(pl.Series(RAW, raw, dtype=pl.String))
    users = pl.DataFrame({c.USER_ID: train.users.ids, **{version_column(v): texts for v, texts in enumerate(user_texts)}})
    text = pl.selectors.starts_with(PROFILE).cast(pl.String)  # an empty list alone has no type
    return Profiles(items.with_columns(text), users.with_columns(text), facts)


def write_profiles(folder: "str | os.PathLike[str]", profiles: Profiles, train: TrainSet, *, replace: bool = False, **facts: Any) -> None:
    """Write profiles with the hash of the training part they were made from; the folder is whole or absent.

    Args:
        folder: to make.
        profiles: of ``train``.
        train: the part that they were written from.
        replace: allow an existing folder to be replaced.
        **facts: JSON-able facts for the record, such as the name of the split.

    Raises:
        InputError: if the folder exists, or the profiles are of other items or users.
    """
    _check_rows(profiles, train, "these profiles")
    with atomic_folder(folder, replace=replace) as temporary:
        profiles.items.write_parquet(temporary / "items.parquet")
        profiles.users.write_parquet(temporary / "users.parquet")
        record = {
            "format": FORMAT,
            "dataset": train.name,
            "content_hash": train.content_hash,
            "versions": profiles.n_versions,
            **profiles.facts,
            **facts,
            "sha256": {name: sha256_file(temporary / name) for name in ("items.parquet", "users.parquet")},
        }
        write_json(temporary / "profiles.json", record)


def read_profiles(folder: "str | os.PathLike[str]", train: TrainSet) -> Profiles:
    """Read profiles that were written from this very training part.

    Args:
        folder: as :func:`write_profiles` made it.
        train: the part that the caller works with.

    Raises:
        OtherPartError: if they come from another data set or another split (their texts would tell of held-out events).
        InputError: if a file is missing, damaged or was changed.
    """
    place = Path(folder)
    record = read_record(place)
    if record.get("content_hash") != train.content_hash:
        split = record.get("split")
        made = f"{record.get('dataset')!r}" + (f", split {split!r}" if split else "")
        raise OtherPartError(
            f"{place} was written from another training part ({made}, {str(record.get('content_hash'))[:12]}) than this one "
            f"({train.name!r}, {train.content_hash[:12]}); its texts may tell of held-out events: write profiles of this split"
        )
    tables = []
    for name in ("items.parquet", "users.parquet"):
        if not (place / name).is_file():
            raise InputError(f"{place / name} is missing; write the profiles again with lexirec profile")
        if sha256_file(place / name) != (record.get("sha256") or {}).get(name):
            raise InputError(f"{place / name} was changed after it was written; write the profiles again with lexirec profile")
        tables.append(pl.read_parquet(place / name))
    profiles = Profiles(
        tables[0], tables[1], {k: v for k, v in record.items() if k not in ("format", "sha256", "content_hash", "versions")}
    )
    _check_rows(profiles, train, str(place))
    return profiles


def read_record(folder: "str | os.PathLike[str]") -> dict[str, Any]:
    """What a folder of profiles says of itself; ``content_hash`` is that of the training part that they were written from.

    Raises:
        InputError: if there are none, or of another format.
    """
    file = Path(folder) / "profiles.json"
    if not file.is_file():
        raise InputError(
            f"{file.parent} holds no profiles (no profiles.json in it); write some: lexirec profile --data DIR --out {file.parent}"
        )
    record = read_json(file)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError(f"{file} is not of format {FORMAT}; write the profiles again with lexirec profile")
    return record


def read_part(folder: "str | os.PathLike[str]", parts: Sequence[TrainSet]) -> tuple[int, Profiles]:
    """Read profiles that were written from one of several training parts.

    Returns:
        Which of them, and the profiles.

    Raises:
        OtherPartError: if they were written from none of these.
        InputError: if a file is missing, damaged or was changed.
    """
    for number, part in enumerate(parts):
        try:
            return number, read_profiles(folder, part)
        except OtherPartError:
            if number == len(parts) - 1:
                raise
    raise ValueError("there are no training parts")


def merge_profiles(train: TrainSet, written: Profiles, folders: Sequence[str]) -> tuple[Profiles, pl.DataFrame]:
    """Profiles from folders where a data set has one, else those that were written just now.

    Args:
        train: of one data set or a mix.
        written: profiles of all of it.
        folders: each written from the training part of one data set.

    Returns:
        The profiles, with as many versions as all of them have (which a warning tells where some have more), and the users' part of those
        that came from folders.

    Raises:
        InputError: if no folder was written from any of these training parts, or one is missing or damaged.
    """
    parts = [domain_part(train, number) for number in range(train.n_domains)]
    items, users, found = [], [], []
    fitting: dict[int, Profiles] = {}
    places: dict[int, str] = {}
    refused: list[str] = []
    for folder in dict.fromkeys(folders):
        try:
            number, fitting_profiles = read_part(folder, parts)
            fitting[number], places[number] = fitting_profiles, folder
        except OtherPartError as error:
            refused.append(str(error))
    if not fitting:
        which = f"no folder of profiles goes with {train.name}: " if len(parts) > 1 else ""
        raise OtherPartError(which + "; ".join(refused))
    for reason in refused:
        warn(f"{reason}; the plain writer's texts are read instead")
    kept = [version_column(version) for version in range(_common_versions(train, written, fitting, places) + 1)]
    for number in range(train.n_domains):
        own = slice(int(train.item_domains[number]), int(train.item_domains[number + 1]))
        people = slice(int(train.user_domains[number]), int(train.user_domains[number + 1]))
        ours_items, ours_users = written.items[own], written.users[people]
        if number in fitting:
            theirs = fitting[number]
            extra = [RAW] if RAW in theirs.items.columns else []
            items.append(theirs.items.select(ours_items[c.ITEM_ID], *kept, *extra))
            users.append(theirs.users.select(ours_users[c.USER_ID], *kept))
            found.append(users[-1])
        else:
            items.append(ours_items.select(c.ITEM_ID, *kept, *([RAW] if RAW in ours_items.columns else [])))
            users.append(ours_users.select(c.USER_ID, *kept))
    return Profiles(pl.concat(items, how="diagonal"), pl.concat(users)), pl.concat(found)


def _common_versions(train: TrainSet, written: Profiles, fitting: Mapping[int, Profiles], places: Mapping[int, str]) -> int:
    """Rephrased versions that all data sets have; told where some have more."""
    counts = {places[number]: profiles.n_versions for number, profiles in fitting.items()}
    if len(fitting) < train.n_domains:
        counts[""] = written.n_versions
    least, most = min(counts, key=lambda place: counts[place]), max(counts, key=lambda place: counts[place])
    if counts[least] < counts[most]:
        fewest = f"{least} has {counts[least]}" if least else f"versions = {counts[least]} of the plain writer are"
        cure = f"write that folder again with --versions {counts[most]}" if least else f"set versions={counts[most]}"
        warn(
            f"{fewest} rephrased versions of the profiles, fewer than the {counts[most]} of {most or 'the plain writer'}; all data sets of"
            f" {train.name} are read in the fewest: {cure}"
        )
    return counts[least]


def _check_rows(profiles: Profiles, train: TrainSet, what: str) -> None:
    if not profiles.items[c.ITEM_ID].equals(train.items[c.ITEM_ID]) or profiles.users[c.USER_ID].to_list() != train.users.ids.to_list():
        raise InputError(f"{what} are not of the items and users of {train.name!r}, one row each in index order")
