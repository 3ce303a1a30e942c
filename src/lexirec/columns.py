"""Column names used in every frame and file, in one place."""

from typing import Final

USER_ID: Final = "user_id"
ITEM_ID: Final = "item_id"
TIMESTAMP: Final = "timestamp"
POSITION: Final = "position"
RATING: Final = "rating"
REVIEW: Final = "review"
SPLIT: Final = "split"
TITLE: Final = "title"
SCORE: Final = "score"
RANK: Final = "rank"
ITEM_IDS: Final = "item_ids"
QUERY: Final = "query"
