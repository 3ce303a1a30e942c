"""Groups of items and users that are reported apart: the long tail, short histories, and what training has never seen."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lexirec.data.dataset import Heldout, TrainSet
from lexirec.errors import InputError, nearest

ITEM_GROUPS: Final = ("head_items", "tail_items", "cold_items")
USER_GROUPS: Final = ("long_users", "short_users", "cold_users")
GROUPS: Final = (*ITEM_GROUPS, *USER_GROUPS)
LLMEMB_THRESHOLDS: Final = {"yelp": (12, 13), "fashion": (3, 4), "beauty": (9, 4)}
"""(user, item) thresholds of LLMEmb's harness: short below the first, tail below the second."""


@dataclass(frozen=True)
class GroupRules:
    """Which groups are wanted and where they are cut.

    Item groups hold targets: their metrics look at the targets inside the group, each ranked among all items. User groups hold users.

    Attributes:
        names: groups to report, of :data:`GROUPS`.
        head_share: share of the events that the head items hold together. Head items are those with at least ``t`` events, for the
            largest ``t`` that reaches the share (items with equally many events are never parted); all others are tail items.
        tail_share: instead of that, a share of the *items* that are tail: those below ``t`` events, for the smallest ``t`` that reaches it.
        item_threshold: instead of the shares: tail items have fewer events than this.
        short_share: share of the users that are short. Short users have a history below ``t``, for the smallest ``t`` that reaches
            the share.
        user_threshold: instead of the share: short users have a history of fewer items than this.
        count_heldout: count validation and test events of an item too, as LLMEmb's harness does (for grouping only). Off: training events.

    Raises:
        InputError: for an unknown group, a share outside (0, 1] or a threshold below 1.
    """

    names: tuple[str, ...] = GROUPS
    head_share: float = 0.8
    tail_share: float | None = None
    item_threshold: int | None = None
    short_share: float = 0.8
    user_threshold: int | None = None
    count_heldout: bool = False

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in GROUPS:
                raise InputError(f"unknown group {name!r}{nearest(name, GROUPS)}; known: {', '.join(GROUPS)}")
        for option in ("head_share", "short_share", "tail_share"):
            value = getattr(self, option)
            if value is not None and not 0 < value <= 1:
                raise InputError(f"{option} is {getattr(self, option)}; it is a share and lies in (0, 1]")
        for option in ("item_threshold", "user_threshold"):
            value = getattr(self, option)
            if value is not None and value < 1:
                raise InputError(f"{option} is {value}; it is a number of events, at least 1")

    @classmethod
    def llmemb(cls, dataset: str) -> "GroupRules":
        """The thresholds of LLMEmb's harness for ``yelp``, ``fashion`` or ``beauty``."""
        if dataset not in LLMEMB_THRESHOLDS:
            hint = nearest(dataset, LLMEMB_THRESHOLDS)
            raise InputError(f"LLMEmb has no thresholds for {dataset!r}{hint}; known: {', '.join(LLMEMB_THRESHOLDS)}")
        user, item = LLMEMB_THRESHOLDS[dataset]
        return cls(item_threshold=item, user_threshold=user, count_heldout=True)

    @classmethod
    def parse(cls, text: str) -> "GroupRules":
        """Rules as typed on the command line.

        ``80/20``: head items hold 80 % of the events, 80 % of the users are short. ``items:80/20``: 80 % of the items are tail.
        ``llmemb:beauty``: LLMEmb's thresholds. ``item=20,user=10``: others of that kind. Each may be followed by ``,count=all`` (held-out
        events of an item count too, as LLMEmb has it anyway) or ``,count=train``.

        Raises:
            InputError: for anything else.

        >>> GroupRules.parse("item=20,user=10,count=all")  # doctest: +ELLIPSIS
        GroupRules(..., item_threshold=20, ..., user_threshold=10, count_heldout=True)
        """
        forms = "80/20, items:80/20, llmemb:beauty, or item=20,user=10, each perhaps with ,count=all"
        options: dict[str, Any] = {}
        parts = [word.strip() for word in text.split(",")]
        for part in parts:
            key, sign, value = (word.strip() for word in part.partition("="))
            shares = re.fullmatch(r"(items:)?(\d+)/(\d+)", part)
            if part.startswith("llmemb:"):
                rules = cls.llmemb(part.removeprefix("llmemb:"))
                options |= {name: getattr(rules, name) for name in ("item_threshold", "user_threshold", "count_heldout")}
            elif shares:
                first, second = int(shares[2]), int(shares[3])
                if first + second != 100 or not first:
                    raise InputError(f"groups {part!r}: {first} and {second} are shares in per cent and must make 100, the first above 0")
                options |= {"tail_share" if shares[1] else "head_share": first / 100, "short_share": first / 100}
            elif sign and key in ("item", "user") and re.fullmatch(r"\d+", value):
                options[f"{key}_threshold"] = int(value)
            elif sign and key == "count" and value in ("train", "all"):
                options["count_heldout"] = value == "all"
            else:
                raise InputError(f"groups {text!r}: {part!r} says nothing about groups; write {forms}")
        kinds = [re.sub(r"[=\d].*", "", part) for part in parts if not part.startswith("count")]
        if (len(kinds) > 1 and sorted(kinds) != ["item", "user"]) or sum(part.startswith("count") for part in parts) > 1:
            raise InputError(f"groups {text!r} cuts the same thing twice; write one of {forms}")
        return cls(**options)

    def describe(self) -> str:
        """The cuts in words, for reports."""
        counted = "events of all parts" if self.count_heldout else "training events"
        if self.item_threshold is not None:
            items = f"tail items: fewer than {self.item_threshold} {counted}"
        elif self.tail_share is not None:
            items = f"tail items: the {self.tail_share * 100:g} % of the items with the fewest {counted}"
        else:
            items = f"head items: the most popular that together hold {self.head_share * 100:g} % of the {counted}"
        users = (
            f"short histories: those of the {self.short_share * 100:g} % of the users with the shortest"
            if self.user_threshold is None
            else f"short histories: fewer than {self.user_threshold} items"
        )
        return f"{items}; {users}"


def rules_of(groups: "bool | Iterable[str] | GroupRules | None") -> GroupRules:
    """Rules from what a caller may give: rules, names, true (all groups), or false / ``None`` (no groups)."""
    if isinstance(groups, GroupRules):
        return groups
    if groups is None or groups is False:
        return GroupRules(names=())
    if groups is True:
        return GroupRules()
    return GroupRules(names=(groups,) if isinstance(groups, str) else tuple(groups))


def head_threshold(counts: NDArray[np.integer], share: float) -> int:
    """Largest ``t`` such that the items with at least ``t`` events hold ``share`` of all events.

    >>> head_threshold(np.array([6, 2, 1, 1]), 0.8)
    2
    """
    values = np.sort(counts)[::-1]
    held = np.cumsum(values)
    if not len(values) or not held[-1]:
        return 1
    # A little slack: 0.8 * 10 must be reached by 8 events whatever the rounding.
    return max(int(values[int(np.searchsorted(held, share * held[-1] * (1 - 1e-12)))]), 1)


def lower_threshold(lengths: NDArray[np.integer], share: float) -> int:
    """Smallest ``t`` such that ``share`` of the values lie below ``t``.

    >>> lower_threshold(np.array([1, 2, 3, 4, 50]), 0.8)
    5
    """
    if not len(lengths):
        return 1
    return int(np.sort(lengths)[max(int(np.ceil(share * len(lengths) * (1 - 1e-12))) - 1, 0)]) + 1


def item_groups(train: TrainSet, rules: GroupRules, heldout: Iterable[Heldout] = ()) -> dict[str, NDArray[np.bool_]]:
    """Membership of every item in the wanted item groups, ``(I,)`` bool each.

    Cold items have no training event or are new in a cold-items split; they are tail items too.
    """
    counts = train.popularity.copy()
    if rules.count_heldout:
        for part in heldout:
            counts += np.bincount(part.item_index, minlength=train.n_items)
    if rules.item_threshold is not None:
        threshold = rules.item_threshold
    elif rules.tail_share is not None:
        threshold = lower_threshold(counts, rules.tail_share)
    else:
        threshold = head_threshold(counts, rules.head_share)
    cold = (train.popularity == 0) | train.new_items
    found = {"head_items": counts >= threshold, "tail_items": counts < threshold, "cold_items": cold}
    return {name: found[name] for name in rules.names if name in found}


def user_groups(train: TrainSet, rules: GroupRules, seen: Iterable[Heldout] = ()) -> dict[str, NDArray[np.bool_]]:
    """Membership of every user in the wanted user groups, ``(U,)`` bool each.

    A history is what the model is asked with: training events and those of ``seen``. Cold users have no training event.
    """
    events = np.diff(train.offsets)
    lengths = events.copy()
    for part in seen:
        lengths += np.bincount(part.user_index, minlength=train.n_users)
    threshold = lower_threshold(lengths, rules.short_share) if rules.user_threshold is None else rules.user_threshold
    found = {"long_users": lengths >= threshold, "short_users": lengths < threshold, "cold_users": events == 0}
    return {name: found[name] for name in rules.names if name in found}
