"""Profiles by a language model: items first, then people from their items' profiles and their own reviews, then rephrasings.

Source: EasyRec (github.com/HKUDS/EasyRec @ 95c8ede) and RLMRec (arXiv 2310.15950, eq. 13). How this differs: own wording; data is quoted as
JSON; who gets no valid answer keeps the plain writer's text instead of being deleted, and is counted.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from lexirec import columns as c
from lexirec.data.dataset import TrainSet
from lexirec.data.messages import warn
from lexirec.errors import InputError
from lexirec.text import profile_prompts
from lexirec.text.column_roles import ABOUTS, roles
from lexirec.text.llm import DRY_RUN, LanguageModel, Prompt, Result, json_answer
from lexirec.text.plain_facts import READ, pieces
from lexirec.text.plain_wording import CHARACTERS, MAX_VERSIONS
from lexirec.text.plain_writer import PlainWriter
from lexirec.text.profile_prompts import ProfileAnswer, rephrase_prompt, revised, shortened
from lexirec.text.profiles import Profiles, frames

PENDING = "(to be written) "
"""In a dry run, in front of the text that stands for one to come: what is asked about it is asked anew, whatever is known of that text."""


class ProfileWarning(UserWarning):
    """Some profiles could not be written by the language model, or were longer than asked for and are cut."""


class LmWriter:
    """Writes profiles with a language model.

    Args:
        model: whom to ask.
        versions: rephrased versions beside the profile, 0 to 12.
        family: prompts, one of :data:`~lexirec.text.profile_prompts.FAMILIES`.
        seed: of the sample of reviews and of long histories; at least 0.
        max_history: items of a person that are shown; a sample, in the order of the history.
        max_reviews: reviews of an item that are shown.
        plain: writes for those that the model gives no valid answer for.

    Raises:
        InputError: for a setting out of range.
    """

    def __init__(
        self,
        model: LanguageModel,
        versions: int = 3,
        *,
        family: str = "general",
        seed: int = 0,
        max_history: int = 10,
        max_reviews: int = 5,
        plain: PlainWriter | None = None,
    ) -> None:
        if not 0 <= versions <= MAX_VERSIONS:
            raise InputError(f"versions is {versions}; 0 to {MAX_VERSIONS} rephrasings can be written")
        if max_history < 1 or max_reviews < 0:
            raise InputError(f"max_history is {max_history} and max_reviews {max_reviews}; at least 1 and 0")
        if seed < 0:
            raise InputError(f"seed is {seed}; it must be at least 0")
        self.model, self.versions, self.seed = model, versions, seed
        self.family = profile_prompts.family(family)
        self.max_history, self.max_reviews = max_history, max_reviews
        self.plain = plain if plain is not None else PlainWriter(versions, seed)

    def write(self, train: TrainSet) -> Profiles:
        """Profiles of all items and users of a training part; reviews and histories come from this part alone.

        Raises:
            BudgetError, LlmError: as the client raises them; answers so far are kept, and the next call goes on from there.
            LlmError: also if no text at all is the model's.

        Warns:
            ProfileWarning: where texts are the plain writer's, or are cut.
        """
        plain = self.plain.write(train)
        self._reason: str | None = None
        self._shortened = {"items": 0, "users": 0}
        failed: dict[str, int] = {}
        about_items = self._item_prompts(train)
        item_texts, ok_items = self._asked("items", about_items, plain.item_texts(), self.family.item_words, failed)
        about_users = self._user_prompts(train, item_texts)
        user_texts, ok_users = self._asked("users", about_users, plain.user_texts(), self.family.user_words, failed)
        unasked = {"items": about_items.count(None), "users": about_users.count(None)}
        if any(failed.values()) and not (self.model.dry_run or any(ok_items) or any(ok_users)):
            raise self.model.useless()
        items, users = [item_texts], [user_texts]
        for version in range(1, self.versions + 1):
            for texts, ok, versions, fallback in (
                (item_texts, ok_items, items, plain.item_texts(version)),
                (user_texts, ok_users, users, plain.user_texts(version)),
            ):
                versions.append(self._rephrased(texts, ok, version, fallback, failed))
        told = []
        if any(failed.values()):
            told.append(f"gave no valid answer for {_counted(failed)} (the first reason: {self._reason})")
        if any(unasked.values()):
            told.append(
                f"was not asked about {_counted(unasked)}, since nothing is known of them (give items a title, a description, an attribute "
                "or a review, and users a choice in the training part)"
            )
        if told and not self.model.dry_run:
            warn(f"{self.model.model} {', and '.join(told)}; they have the plain writer's texts", ProfileWarning)
        if any(self._shortened.values()) and not self.model.dry_run:
            warn(
                f"{self.model.model} wrote more words than it was asked for in {_counted(self._shortened)}; these are cut, at the end of a "
                f"sentence where there is one ({self.family.item_words} words for an item, {self.family.user_words} for a user, twice the "
                "original for a rephrasing)",
                ProfileWarning,
            )
        raw = plain.items["raw"].to_list() if "raw" in plain.items.columns else None
        return frames(
            train, items, users, raw, writer="lm", model=self.model.model, family=self.family.name, seed=self.seed,
            max_history=self.max_history, max_reviews=self.max_reviews, collaborative=self.plain.collaborative,
            parameters=self.model.parameters, fallbacks=failed, unasked=unasked,
            shortened=self._shortened,
        )  # fmt: skip

    # --- asking ------------------------------------------------------------------------------------------------------------------

    def _asked(
        self, what: str, prompts: list[Prompt | None], fallback: list[str], limit: int, failed: dict[str, int]
    ) -> tuple[list[str], list[bool]]:
        """Profiles, and which of them the model wrote, or would write. ``None`` asks nothing: there is nothing to tell of this one."""
        results: list[Result[ProfileAnswer]] = self.model.ask(
            [p for p in prompts if p is not None], json_answer(ProfileAnswer), what=f"profiles of {what}"
        )
        waiting = iter(results)
        texts, ok = [], []
        for prompt, plain in zip(prompts, fallback, strict=True):
            result = next(waiting) if prompt is not None else None
            value = result.value if result is not None else None
            pending = result is not None and result.error == DRY_RUN
            if value is not None:
                texts.append(self._within(value.summarization, what, limit))
            else:
                texts.append(PENDING + plain if pending else plain)
            ok.append(value is not None or pending)
        failed[what] = self._failures(results)
        return texts, ok

    def _rephrased(self, texts: list[str], ok: list[bool], version: int, fallback: list[str], failed: dict[str, int]) -> list[str]:
        """Another wording of each text that the model wrote; the plain writer's own rephrasing of the others."""
        asked = [rephrase_prompt(text, version) for text, fine in zip(texts, ok, strict=True) if fine]
        answered = self.model.ask(asked, revised, plain_text=True, what=f"rephrasing {version}")
        if failures := self._failures(answered):
            failed["rephrasings"] = failed.get("rephrasings", 0) + failures
        results = iter(answered)
        written = []
        for text, fine, plain in zip(texts, ok, fallback, strict=True):
            value = next(results).value if fine else None
            if value is not None:
                # It may come out longer than its original; twice that is not a rewriting any more.
                words = 2 * len(text.split()) + 10
                written.append(self._within(value, "rephrasings", words, max(2 * len(text) + 100, CHARACTERS * words)))
            else:
                written.append(text if fine else plain)
        return written

    def _within(self, text: str, what: str, limit: int, characters: int | None = None) -> str:
        """A text of the model within its limit; counted if it had to be cut."""
        kept = shortened(text, limit, characters)
        if kept != text:
            self._shortened[what] = self._shortened.get(what, 0) + 1
        return kept

    def _failures(self, results: Sequence[Result[Any]]) -> int:
        """How many have no value; the first one's reason is kept for the warning."""
        failed = [result for result in results if result.value is None]
        if failed and self._reason is None:
            self._reason = failed[0].error
        return len(failed)

    # --- prompts -----------------------------------------------------------------------------------------------------------------

    def _item_prompts(self, train: TrainSet) -> list[Prompt | None]:
        described, shown = self._fields(train.items)
        reviews = self._reviews_of_items(train)
        prompts: list[Prompt | None] = []
        for row in range(train.n_items):
            about = described[row]
            if self.family.with_reviews is None and about:
                # The raw text is there: title and description suffice (RLMRec, eq. 13).
                facts = {"title": shown[row].get("title", ""), "description": about}
                feedback: Sequence[str] = ()
            else:
                facts = shown[row]
                feedback = reviews[row]
            prompts.append(self.family.item_prompt(facts, feedback) if any(facts.values()) or feedback else None)
        return prompts

    def _fields(self, items: pl.DataFrame) -> tuple[list[str], list[dict[str, str]]]:
        """Description of each item, and its fields by the prompt's names."""
        read = roles(items)
        about_columns = [name for name in items.columns if name.lower() in ABOUTS and name.lower() != "text"]
        # Last, since a column of that name may hold more than a description.
        about_columns += [name for name in items.columns if name.lower() == "text" and not _repeats(items, name, [c.TITLE, *read])]
        described = _first(items, about_columns)
        attributes = {name: (name,) for name in read if name not in about_columns and name.lower() != "text"}
        everything: dict[str, tuple[str, ...]] = {"title": (c.TITLE,), **attributes}
        if self.family.fields is None or self.family.with_reviews is None:
            # No description: the title and all attributes take its place.
            return described, _facts(items, everything)
        rows = _facts(items, self.family.fields)
        bare = [at for at, facts in enumerate(rows) if not any(facts.values())]
        # None of the family's fields is known: what else is takes their place.
        for at, others in zip(bare, _facts(items[bare], everything), strict=True):
            known = {"description": described[at]} if described[at] else {name: text for name, text in others.items() if text}
            rows[at] = {**rows[at], **known}
        return described, rows

    def _reviews_of_items(self, train: TrainSet) -> list[list[str]]:
        found: list[list[str]] = [[] for _ in range(train.n_items)]
        if c.REVIEW not in train.interactions.columns or not self.max_reviews:
            return found
        rng = np.random.default_rng([self.seed, 1])
        table = pl.DataFrame(
            {
                "item": train.item_index,
                "review": train.interactions[c.REVIEW].cast(pl.String).str.slice(0, READ),
                "key": rng.random(train.n_interactions),
            }
        )
        table = (
            table.filter(pl.col("review").str.strip_chars() != "")
            .sort("item", "key")
            .group_by("item", maintain_order=True)
            .head(self.max_reviews)
        )
        for item, review in zip(table["item"].to_list(), table["review"].to_list(), strict=True):
            found[item].append(" ".join(review.split()))
        return found

    def _user_prompts(self, train: TrainSet, item_texts: list[str]) -> list[Prompt | None]:
        titles = _texts(train.items[c.TITLE]) if c.TITLE in train.items.columns else [""] * train.n_items
        has_reviews = c.REVIEW in train.interactions.columns
        reviews = train.interactions[c.REVIEW].cast(pl.String).str.slice(0, READ) if has_reviews else None
        prompts: list[Prompt | None] = []
        for user in range(train.n_users):
            rows = np.arange(train.offsets[user], train.offsets[user + 1])
            if len(rows) > self.max_history:
                rng = np.random.default_rng([self.seed, 2, user])
                rows = np.sort(rng.choice(rows, self.max_history, replace=False))
            own = reviews[rows.tolist()].to_list() if reviews is not None else [None] * len(rows)
            history = [
                (titles[item], item_texts[item], " ".join(review.split()) if review else "")
                for item, review in zip(train.item_index[rows].tolist(), own, strict=True)
            ]
            prompts.append(self.family.user_prompt(history) if history else None)
        return prompts


def _counted(numbers: Mapping[str, int]) -> str:
    """What there is more than none of: ``3 items, 1 users``."""
    return ", ".join(f"{number:,} {what}" for what, number in numbers.items() if number)


def _facts(items: pl.DataFrame, fields: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Fields of each item, each from the first of its columns that has a value there; a catalogue may lack any column."""
    columns = {field: _first(items, candidates) for field, candidates in fields.items()}
    return [{field: texts[row] for field, texts in columns.items()} for row in range(items.height)]


def _first(items: pl.DataFrame, candidates: Sequence[str]) -> list[str]:
    """The first text of each row among some columns, found by their names in any case; empty where there is none."""
    by_name = {name.lower(): name for name in items.columns}
    found = [""] * items.height
    for name in candidates:
        if name.lower() in by_name:
            found = [old or new for old, new in zip(found, _texts(items[by_name[name.lower()]]), strict=True)]
    return found


def _repeats(items: pl.DataFrame, name: str, others: Sequence[str]) -> bool:
    """Whether a column only says what other columns say: these put together in one text, with their names or without."""
    rows = items.filter(pl.col(name).is_not_null()).head(1000)
    columns = [other for other in others if other != name and other in rows.columns]
    labels = " ".join(columns)
    news = 0
    for text, *known in zip(_texts(rows[name]), *(_texts(rows[other]) for other in columns), strict=True):
        words = _words(text)
        news += 5 * len(words - _words(" ".join([labels, *known]))) > len(words)
    return 10 * news <= rows.height


def _words(text: str) -> set[str]:
    return set(re.findall(r"[^\W_]+", text.lower()))


def _texts(values: pl.Series) -> list[str]:
    """A column's values as clean strings."""
    if values.dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    if values.dtype == pl.String:
        return values.str.slice(0, 4 * READ).str.replace_all(r"\s+", " ").str.strip_chars().fill_null("").to_list()
    return [", ".join(dict.fromkeys(pieces(value))) for value in values.to_list()]
