import pytest

from lexirec.report.tested import fit_seconds, whole_groups


def sizes(**targets):
    return {"group_sizes": {name: {"users": n, "targets": n} for name, n in targets.items()}}


@pytest.mark.parametrize(
    ("entry", "whole"),
    [
        (sizes(head_items=184, tail_items=66, cold_items=8, long_users=0, short_users=250, cold_users=0), ["short_users"]),
        (sizes(head_items=0, tail_items=90, cold_items=90, long_users=30, short_users=60, cold_users=0), ["tail_items", "cold_items"]),
        (sizes(head_items=9, tail_items=1, cold_items=0, long_users=4, short_users=6, cold_users=0), []),
        (sizes(short_users=5, long_users=0), ["short_users"]),
        (sizes(short_users=5), []),  # what the others are is not known
        ({}, []),
    ],
)
def test_groups_that_hold_everything(entry, whole):
    assert whole_groups(entry) == whole


def test_seconds_of_a_fit_have_its_stages_in_them():
    assert fit_seconds({"seconds": 3.33, "fit_seconds": 47.23}) == 47.23
    assert fit_seconds({"seconds": 27.99, "fit_seconds": 27.64}) == 27.99  # of a resumed training: the first part is in the former alone
    assert fit_seconds({"seconds": 3.33}) is None
