"""One protocol for every model: full ranking, ties settled exactly, groups, intention, and paired tests."""

from lexirec.evaluation.evaluate import Evaluation, evaluate
from lexirec.evaluation.groups import GroupRules
from lexirec.evaluation.intention import IntentionEvaluation, evaluate_intention
from lexirec.evaluation.metrics import DEFAULT_METRICS
from lexirec.evaluation.popularity import by_popularity, popularity_classes
from lexirec.evaluation.statistics import compare, summarise
from lexirec.evaluation.wishes import intention_queries

__all__ = [
    "DEFAULT_METRICS",
    "Evaluation",
    "GroupRules",
    "IntentionEvaluation",
    "by_popularity",
    "compare",
    "evaluate",
    "evaluate_intention",
    "intention_queries",
    "popularity_classes",
    "summarise",
]
