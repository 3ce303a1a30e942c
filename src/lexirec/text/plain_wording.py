"""Sentences of the plain writer: several wordings of each fact, several orders of the facts, and the limits on words."""

import zlib
from collections.abc import Iterable, Mapping, Sequence

ITEM_WORDS, USER_WORDS = 50, 100
"""Most words of an item's and a user's profile. Source: EasyRec's prompts (spec 2.1)."""
CHARACTERS = 10
"""Most characters of a text for each of its words, on the mean: bounds scripts without spaces and words without end."""
TITLE_WORDS = 9
"""Words of another item's title that are quoted."""
MOST_TITLES = 8
"""Titles quoted in one list."""
MAX_VERSIONS = 12
"""As many rephrasings as four wordings and three orders give."""

# The first wording is the profile's own, the shortest: an encoder reads 64 tokens in training. The others are the rephrasings'.
WORDINGS: Mapping[str, tuple[str, str, str, str, str]] = {
    "title": ("{}", "This is {}", "The name is {}", "Here we have {}", "It is called {}"),
    "title_maker": ("{} by {}", "{}, made by {}", "{}, a work of {}", "{} from {}", "{}, which comes from {}"),
    "kinds": ("{}", "Belongs to {}", "You find it under {}", "It counts as {}", "Sort: {}"),
    "popular1": ("Popular", "Many have chosen it", "Well known", "A common choice", "In demand"),
    "popular2": ("Very popular", "A favourite of many", "Widely known", "One that very many have chosen", "In great demand"),
    "popular3": (
        "Most popular of all",
        "Among the biggest favourites",
        "Known to nearly everyone",
        "A bestseller",
        "Nothing is in greater demand",
    ),
    "with": (
        "Chosen together with {}",
        "Those who pick it also pick {}",
        "Goes along with {}",
        "In the same hands: {}",
        "Often seen beside {}",
    ),
    "fans": (
        "For people who like {}",
        "Would suit anyone into {}",
        "Fans of {} would enjoy it",
        "A good match for friends of {}",
        "Meant for lovers of {}",
    ),
    "reviews": ("Reviews mention {}", "People who have it talk of {}", "What is said of it: {}", "Noted for {}", "Comments bring up {}"),
    "about": ("{}", "In short: {}", "Described so: {}", "To quote: {}", "The description says: {}"),
    "facts": ("{}", "Details: {}", "Further: {}", "Also known: {}", "In figures: {}"),
    "user_kinds": ("Likes {}", "Enjoys {}", "Is drawn to {}", "Mostly looks for {}", "Main interests: {}"),
    "user_makers": ("Favours {}", "Comes back to {}", "Trusts {}", "Has a liking for {}", "Keeps to {}"),
    "user_recent": ("Recently chose {}", "Lately picked {}", "The latest choices were {}", "Went last for {}", "Has just had {}"),
    "user_reviews": ("Writes about {}", "Cares about {}", "Talks of {}", "Own words: {}", "Often brings up {}"),
    "user_popular": (
        "Prefers popular choices",
        "Follows what many choose",
        "Goes with the well known",
        "Likes what is in demand",
        "A friend of favourites",
    ),
    "user_also": ("May also like {}", "Might go on to {}", "Could enjoy {}", "Similar people chose {}", "A next choice may be {}"),
}
ITEM_ORDERS = (
    ("title", "kinds", "popular", "with", "fans", "reviews", "about", "facts"),
    ("kinds", "title", "fans", "reviews", "with", "popular", "about", "facts"),
    ("title", "fans", "with", "popular", "kinds", "about", "reviews", "facts"),
)
# Latest titles first: of the orders tried, the best for plain cosines of a sentence encoder (docs/profiles.md).
USER_ORDERS = (
    ("user_recent", "user_also", "user_kinds", "user_makers", "user_reviews", "user_popular"),
    ("user_kinds", "user_recent", "user_makers", "user_reviews", "user_also", "user_popular"),
    ("user_makers", "user_recent", "user_kinds", "user_popular", "user_also", "user_reviews"),
)
FORMS = {"title": ("title_maker", "title"), "popular": ("popular1", "popular2", "popular3")}
"""Clauses of several forms: with and without a maker, degrees of popularity."""
HANGING = " .,;:-–—(&/|+"
_JOINING = "a an and as at by each for from in of on or per the to w w/ with x"
JOINING = frozenset(_JOINING.split())
NO_ITEM = "An item that nothing is known of yet"
NO_USER = "A person that nothing is known of yet"


def listed(parts: Sequence[str]) -> str:
    """An enumeration.

    >>> listed(["tea", "rice", "soup"])
    'tea, rice and soup'
    """
    if len(parts) < 2:
        return "".join(parts)
    return ", ".join(parts[:-1]) + " and " + parts[-1]


def quoted(titles: Iterable[str], limit: int, most: int = MOST_TITLES) -> str:
    """Distinct titles as an enumeration of at most ``limit`` words; the first always, empty ones never.

    >>> quoted(["Heat", "", "Heat", "Casino", "The Long Good Friday"], 4)
    'Heat; Casino'
    """
    taken: list[str] = []
    for title in titles:
        if not title or title in taken:
            continue
        limit -= max(len(title.split()), len(title) // CHARACTERS)
        if (taken and limit < 0) or len(taken) == most:
            break
        taken.append(title)
    return "; ".join(taken)


def words_of(text: str, limit: int, characters: int | None = None) -> str:
    """The first words of a text, without marks left hanging at the cut.

    Args:
        text: any script.
        limit: most words.
        characters: most characters; ten for each word if not given, but 120 at least.

    >>> words_of("VTECH Cordless Phone, White/Grey, 1 Handset", 3)
    'VTECH Cordless Phone'
    >>> words_of("無線電話" * 100, 3, 8)
    '無線電話無線電話'
    """
    words = text.split(None, limit)
    return _bounded(text if len(words) <= limit else _trimmed(words[:limit]), _most(limit) if characters is None else characters)


def _most(words: int) -> int:
    """Most characters of so many words; a few words may be long ones."""
    return max(CHARACTERS * words, 120)


def _bounded(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[:characters].rstrip(HANGING) or text[:characters]


def short_title(title: str, limit: int = TITLE_WORDS) -> str:
    """A title short enough to be quoted: cut where a part of it ends, else in the middle.

    >>> short_title("ValueMailers Poly Mailers Envelopes Bags 10x13 (100 pieces) for shipping and moving")
    'ValueMailers Poly Mailers Envelopes Bags 10x13 (100 pieces)'
    """
    words = title.split()
    if len(words) <= limit:
        return _bounded(title, _most(limit))
    ends = [
        i for i in range(4, limit + 1) if words[i - 1][-1] in ",;:)" or words[i] in ("-", "–", "|", "with", "for") or words[i][0] in "(["
    ]
    return _bounded(_trimmed(words[: max(ends, default=limit)]), _most(limit))


def _trimmed(words: list[str]) -> str:
    """Words without what hangs at the end: marks, joining words, a bracket that isn't closed."""
    text = " ".join(words).rstrip(HANGING)
    while (last := text.rsplit(None, 1))[-1].lower() in JOINING and len(last) == 2:
        text = last[0].rstrip(HANGING)
    if text.count("(") > text.count(")"):
        text = text[: text.rindex("(")].rstrip(HANGING) or text
    return text


def compose(facts: Mapping[str, Sequence[str]], orders: Sequence[Sequence[str]], version: int, seed: int, limit: int, empty: str) -> str:
    """One text from an entity's facts.

    Args:
        facts: name of a clause (or of its form, see :data:`FORMS`) -> the values of its wording, none for a fixed sentence.
        orders: orders of clauses; those without facts are left out.
        version: 0 for the profile, 1 to 12 for a rephrasing: other words and another order, the same facts as far as the limit lets them.
        seed: which wordings the rephrasings get.
        limit: most words.
        empty: what is written where there are no facts.

    The wording depends on the facts, version and seed alone, never on the process or on other entities.

    >>> compose({"title": ["Rose oil"], "kinds": ["Beauty, Oils"]}, ITEM_ORDERS, 0, 0, 50, NO_ITEM)
    'Rose oil. Beauty, Oils.'
    >>> compose({"title": ["Rose oil"], "kinds": ["Beauty, Oils"]}, ITEM_ORDERS, 1, 0, 50, NO_ITEM)
    'You find it under Beauty, Oils. Here we have Rose oil.'
    """
    key = (
        zlib.crc32("\x1f".join(v for name, values in facts.items() for v in (name, *values)).encode("utf-8", "replace"), seed)
        if version
        else 0
    )
    left, room = limit, CHARACTERS * limit
    sentences: list[str] = []
    for place, clause in enumerate(orders[version % len(orders)]):
        name = next((form for form in FORMS.get(clause, (clause,)) if form in facts), None)
        if name is None:
            continue
        # Versions 1 to 4 take the four other wordings in turn, each clause starting elsewhere.
        wording = WORDINGS[name][1 + ((key >> (2 * place)) + version) % 4 if version else 0]
        written = words_of(wording.format(*facts[name]), left, room - 1)
        sentences.append(written.rstrip(" .,;:") + ("" if written.endswith(("!", "?")) else "."))
        left -= len(written.split())
        room -= len(sentences[-1]) + 1
        if left < 3 or room < 3 * CHARACTERS:
            break
    return " ".join(sentences) or empty + "."
