"""Key phrases of reviews by TF-IDF: the words and pairs of words that tell one owner's reviews from all others'."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

READ = 600
"""Characters of a review that are read: far more than a profile can hold."""
CHUNK = 50_000
"""Reviews taken apart at a time."""
PAIR = 1.3
"""A pair of words says more than a word of the same weight."""
ONCE = 1 / 1.5
"""What is said once may be an accident, where an owner has more to choose from."""
_STOP = """
a about above after again all also always am an and another any anyone are around as at back be because been before being below best
better between big bit both but buy bought by came can cannot cant come could couldnt day did didnt do does doesnt doing done dont down
during each easily else enough even ever every everyone everything far few find first for found four from further gave get gets getting
give go goes going gonna good got great had hadnt half happy hard has hasnt have havent having he her here hers him his hope how i id if
ill im in into is isnt it item items its itself ive just keep kind know last least less let like liked likes little ll long look looking
looks lot lots love loved loves made make makes many may maybe me mean might mine more most much must my myself need needed needs never
new next nice no nor not nothing now of off often oh ok old on once one ones only or order ordered other others our ours out over own
part people perfect perfectly place pretty probably product products purchase purchased put quite rather re read ready real really
recommend recommended review reviews right s said same saw say says second see seem seems she should shouldnt since so some someone
something sometimes star stars still stuff such super sure t take takes than that thats the their theirs them then there theres these
they theyre thing things think third this those though thought three through time times to together too took tried true try trying two
under until up upon us use used uses using ve very want wanted wants was wasnt way we week well went were werent what whats when where
which while who why will wish with within without wont work worked works worth would wouldnt wow year years yes yet you your youre yours
"""
STOP = _STOP.split()
"""English words that tell of no item, and what every review says."""


class ReviewWords:
    """Reviews taken apart once, for the phrases of items and of people.

    A phrase is a word of 3 to 20 letters that isn't common English, or two such words side by side. Scripts without spaces give no words,
    so their reviews are left out.

    Args:
        texts: ``n`` strings or nulls; the first 600 characters of each are read.
    """

    def __init__(self, texts: pl.Series) -> None:
        self.n_texts = len(texts)
        parts = [_words(texts[start : start + CHUNK], start) for start in range(0, len(texts), CHUNK)]
        table = pl.concat(parts) if parts else _words(texts, 0)
        # Rank of each word in the alphabet: the same ids whatever came first.
        self.names = table["text"].unique().sort()
        lookup = pl.DataFrame({"text": self.names, "id": np.arange(len(self.names), dtype=np.int64)})
        ids = table.join(lookup, on="text", how="left", maintain_order="left")["id"].to_numpy()
        row, place = table["row"].to_numpy().astype(np.int64), table["place"].to_numpy()
        beside = np.flatnonzero((row[1:] == row[:-1]) & (place[1:] == place[:-1] + 1))
        pairs = ids[beside] * max(len(self.names), 1) + ids[beside + 1]
        self.pairs, pair_ids, often = np.unique(pairs, return_inverse=True, return_counts=True)
        kept = often[pair_ids] > 1  # the others can't be shared by two owners
        self.row = np.concatenate([row, row[beside][kept]])
        self.term = np.concatenate([ids, len(self.names) + pair_ids[kept]])

    def of_texts(self, least: int) -> list[list[str]]:
        """All phrases of each text that at least ``least`` texts hold, in a fixed order."""
        n_terms = len(self.names) + len(self.pairs)
        held = np.unique(self.row * max(n_terms, 1) + self.term)
        row, term = np.divmod(held, max(n_terms, 1))
        kept = np.bincount(term, minlength=n_terms)[term] >= least
        distinct, place = np.unique(term[kept], return_inverse=True)
        names = [" ".join(words) for words in self._written(distinct)]
        found: list[list[str]] = [[] for _ in range(self.n_texts)]
        for text, at in zip(row[kept].tolist(), place.tolist(), strict=True):
            found[text].append(names[at])
        return found

    def phrases(self, owner: NDArray[np.integer[Any]], n_owners: int, k: int) -> list[list[str]]:
        """Phrases of each owner.

        Args:
            owner: ``(n,)`` whose review it is.
            n_owners: number of owners.
            k: phrases per owner at most.

        Returns:
            Per owner, best first: by ``(1 + log count) log(1 + owners / owners who use it)``. Only phrases that at least two owners use,
            and no word twice.
        """
        n_terms = len(self.names) + len(self.pairs)
        used, count = np.unique(owner[self.row].astype(np.int64) * max(n_terms, 1) + self.term, return_counts=True)
        who, term = np.divmod(used, max(n_terms, 1))
        owners_with = np.bincount(term, minlength=n_terms)
        shared = owners_with[term] > 1
        who, term, count = who[shared], term[shared], count[shared]
        weight = (1 + np.log(count)) * np.log1p(n_owners / owners_with[term])
        weight *= np.where(term >= len(self.names), PAIR, 1.0) * np.where(count > 1, 1.0, ONCE)
        order = np.lexsort((-weight, who))  # stable: ties stay in the order of the terms
        who, term = who[order], term[order]
        best = np.arange(len(who)) - np.searchsorted(who, who) < 4 * k
        found: list[list[str]] = [[] for _ in range(n_owners)]
        taken: list[set[str]] = [set() for _ in range(n_owners)]
        for one, words in zip(who[best].tolist(), self._written(term[best]), strict=True):
            if len(found[one]) < k and taken[one].isdisjoint(words):
                found[one].append(" ".join(words))
                taken[one].update(words)
        return found

    def _written(self, terms: NDArray[np.int64]) -> list[list[str]]:
        names = self.names.to_list()
        size = len(names)
        pairs = self.pairs.tolist()
        return [
            [names[term]] if term < size else [names[pairs[term - size] // size], names[pairs[term - size] % size]]
            for term in terms.tolist()
        ]


def _words(texts: pl.Series, first: int) -> pl.DataFrame:
    """Content words with their review and their place in it."""
    words = (
        pl.DataFrame({"text": texts.cast(pl.String)})
        .with_row_index("row", offset=first)
        .select("row", pl.col("text").str.slice(0, READ).str.to_lowercase().str.replace_all("['’]", "").str.extract_all(r"\w+|[.,;:!?()]"))
        .explode("text")
        .drop_nulls("text")
        .with_row_index("place")
    )
    # Looked up once per distinct word.
    distinct = words.select(pl.col("text").unique())
    content = distinct.filter(pl.col("text").str.contains(r"^[^\W\d_]{3,20}$") & ~pl.col("text").is_in(STOP))
    return words.join(content, on="text", how="semi", maintain_order="left")
