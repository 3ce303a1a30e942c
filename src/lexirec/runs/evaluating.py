"""Measuring a model on the test part of an experiment, or a run on other data."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lexirec import columns as c
from lexirec.data.dataset import TrainSet
from lexirec.data.messages import warn
from lexirec.data.splits import FutureLeakWarning
from lexirec.errors import InputError, UnsupportedQueryError
from lexirec.evaluation.evaluate import Evaluation, evaluate
from lexirec.evaluation.groups import GroupRules
from lexirec.evaluation.metrics import DEFAULT_METRICS
from lexirec.evaluation.ranking import Questions
from lexirec.models.contract import Recommender
from lexirec.models.earlier import LEAKED, learned_events
from lexirec.models.hybrid import Hybrid
from lexirec.models.reading import read_otherwise
from lexirec.models.textual import read_written
from lexirec.progress import showing
from lexirec.retrieval.hybrid import Fusion
from lexirec.runs.experiment import Parts, load_parts
from lexirec.runs.folder import load_run, with_test


def measure(
    model: Recommender,
    parts: Parts,
    *,
    on_valid: bool = False,
    groups: GroupRules | None = None,
    sampled: int | None = None,
    seed: int = 0,
    metrics: Sequence[str] = (),
    progress: bool = False,
) -> Evaluation:
    """Evaluate on the test part (validation items masked too) or on the validation part.

    Args:
        model: a fitted model.
        parts: the data.
        on_valid: the validation part, full ranking, no groups.
        groups: cuts of the groups; 80/20 by default.
        sampled: rank among this many random items instead, as LLMEmb's harness does: repeats are ranked too.
        seed: of the random items.
        metrics: beside the usual ones.
        progress: a bar on stderr.
    """
    wanted = (*DEFAULT_METRICS, *metrics)
    if on_valid:
        assert parts.valid is not None  # noqa: S101 (the caller looked)
        with showing(progress):
            return evaluate(model, parts.train, parts.valid, metrics=wanted, mask_seen=parts.mask_seen)
    if parts.test is None:
        raise no_test_part(parts)
    seen = () if parts.valid is None else (parts.valid,)
    with showing(progress):
        return evaluate(
            model, parts.train, parts.test, seen=seen, groups=groups or GroupRules(), sampled=sampled,
            mask_seen=parts.mask_seen and sampled is None, seed=seed, metrics=wanted,
        )  # fmt: skip


def diagnosed(model: Recommender, parts: Parts, progress: bool = False) -> dict[str, Any]:
    """What the model says of its own answers to the test part, as ``diagnostics`` of a run's entry; nothing for most models.

    Args:
        model: a fitted model that was just measured: what it has made for the answers is used again.
        parts: the data.
        progress: a bar on stderr.
    """
    if parts.test is None or type(model).diagnose is Recommender.diagnose:
        return {}
    seen = () if parts.valid is None else (parts.valid,)
    users = np.unique(parts.test.user_index).astype(np.int64)
    found = model.diagnose(Questions.to(model, parts.train, seen, users).block(0, len(users)), progress)
    return {"diagnostics": found}


def no_test_part(parts: Parts) -> InputError:
    """The error where there is nothing to test on."""
    if parts.train.n_domains > 1:
        return InputError(f"{parts.name}: several data sets have no common test part; name one, of these or another, with --data DIR")
    return InputError(
        f"{parts.name}: the split {parts.protocol!r} leaves no test part; name other data with --data DIR, or a --split that has one"
    )


def evaluate_run(
    folder: str | Path, paths: Sequence[str] = (), split: str | None = None, **options: Any
) -> tuple[dict[str, Any], Evaluation]:
    """As :func:`retest`, without the training set."""
    entry, evaluation, _ = retest(folder, paths, split, **options)
    return entry, evaluation


def retest(
    folder: str | Path,
    paths: Sequence[str] = (),
    split: str | None = None,
    *,
    groups: GroupRules | None = None,
    sampled: int | None = None,
    seed: int = 0,
    text: str | None = None,
    profiles: Sequence[str] = (),
    hybrid: Fusion | None = None,
    hybrid_weight: float = 0.5,
    metrics: Sequence[str] = (),
    progress: bool = True,
) -> tuple[dict[str, Any], Evaluation, TrainSet]:
    """Evaluate a run on its own data, or on another data set without training (zero-shot, for models that can).

    Args:
        folder: the run.
        paths: other data.
        split: another split.
        groups: cuts of the groups.
        sampled: see :func:`measure`.
        seed: of the random items.
        text: how the items of other data are read, as the model's setting of that kind says it; as in training by default.
        profiles: folders of profiles (``lexirec profile``) by which a model that reads texts asks about this data.
        hybrid: fuse the answers with BM25 over the items' texts in this way, see :class:`~lexirec.models.hybrid.Hybrid`.
        hybrid_weight: of BM25 then.
        metrics: beside the usual ones, such as ``"ndcg@50"``.
        progress: a bar on stderr.

    Raises:
        InputError: for ``text`` without other data, or with a model that reads no text; for ``profiles`` of another training part, or
            with a model that reads none.

    Returns:
        A ``runs`` entry of the published schema with ``zero_shot`` (bool), the evaluation, and the training set that was ranked over.
    """
    model, document, result = load_run(folder)
    parts, data = parts_for(document, paths, split)
    other = parts.train.content_hash != result["data_hash"]
    zero_shot = other and not trained_on(model, parts, own=not paths)
    if text is not None:
        if not other:
            raise InputError(f"{folder} reads its own items as it was trained to; an own text needs another data set (--data DIR)")
        read_otherwise(model, text)
    if profiles:
        read_written(model, profiles, parts.train)
    if other or profiles:
        model = transferred(model, parts, folder, document, data, own=not paths)
    if hybrid is not None:
        model = Hybrid(model, hybrid, weight=hybrid_weight)
    evaluation = measure(model, parts, groups=groups, sampled=sampled, seed=seed, metrics=metrics, progress=progress)
    keep: dict[str, Any] = {
        k: result[k] for k in ("seed", "best_epoch", "valid", "seconds", "peak_memory_mb", "device", "versions") if k in result
    }
    entry = with_test(keep, evaluation) | {
        "zero_shot": zero_shot,
        "dataset": parts.name,
        "data_hash": parts.train.content_hash,
        "split": data["split"],
    }
    entry |= diagnosed(model, parts, progress)
    asked: dict[str, Any] = {} if text is None else {"text": text}
    asked |= {"profiles": list(profiles)} if profiles else {}
    asked |= {} if hybrid is None else {"hybrid": hybrid, "hybrid_weight": hybrid_weight}
    return entry | asked, evaluation, parts.train


def parts_for(document: Mapping[str, Any], paths: Sequence[str], split: str | None) -> tuple[Parts, dict[str, Any]]:
    """The data that a run is to be asked about, and the settings that they are read with.

    These are the run's own, less the options of its split where another one is asked for.

    Args:
        document: ``config.yaml`` of the run.
        paths: other data.
        split: another split.
    """
    data = dict(document["data"])
    own = [str(path) for path in data.pop("paths")]
    gone = [path for path in own if not Path(path).exists()]
    if not paths and gone:
        raise InputError(f"{gone[0]}, which the run was trained on, does not exist; say where the data lie now with --data DIR")
    if not paths and split in (None, data["split"]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureLeakWarning)  # it was said when the run was trained
            return load_parts(own, data), data
    if split is not None and split != data["split"]:
        data |= {"split": split}
        data.pop("split_options", None)  # they are of the other split
    return load_parts([str(path) for path in paths] or own, data), data


def transferred(
    model: Recommender, parts: Parts, folder: str | Path, document: Mapping[str, Any], data: Mapping[str, Any], own: bool
) -> Recommender:
    """The model of a run on another training part.

    Raises:
        UnsupportedQueryError: if it can't be, with the run's split where it is the run's own data.
    """
    try:
        return model.transfer(parts.train)
    except UnsupportedQueryError as error:
        if not own:
            raise
        raise UnsupportedQueryError(
            f"{folder} was trained with split {document['data']['split']!r}, and this is another training part (split"
            f" {data['split']!r}, or the data have changed since): {error}"
        ) from error


def trained_on(model: Recommender, parts: Parts, own: bool = False) -> bool:
    """Whether the run was trained on events of this data set, under its own ids or as a part of a mix.

    Args:
        model: of the run.
        parts: of the data set that it is to be evaluated on.
        own: whether these are the run's own data, for the message.

    Raises:
        InputError: if test events are among them.
    """
    learned = learned_events(model, parts.train)
    users, items = parts.train.users, parts.train.items[c.ITEM_ID]
    if parts.test is not None and len(parts.test):
        asked, *known = (
            pl.DataFrame({c.USER_ID: users.name(part.user_index), c.ITEM_ID: items.gather(part.item_index)})
            for part in (parts.test, *([parts.valid] if parts.valid is not None else []))
        )
        known.append(parts.train.interactions.select(c.USER_ID, c.ITEM_ID))
        asked = asked.join(pl.concat(known), on=[c.USER_ID, c.ITEM_ID], how="anti")  # a repeat tells nothing that isn't known here
        seen = asked.join(learned, on=[c.USER_ID, c.ITEM_ID], how="semi").height
        if seen and seen >= LEAKED * asked.height:
            raise InputError(
                f"{seen:,} of {asked.height:,} test events of {parts.name} were in the run's training part; evaluate it with the split that"
                f" it was trained with{'' if own else ', or on other data'}"
            )
        if seen:
            warn(f"{seen:,} of {asked.height:,} test events of {parts.name} were in the run's training part under the same ids")
    here = parts.train.interactions.select(c.USER_ID, c.ITEM_ID)
    return here.join(learned, on=[c.USER_ID, c.ITEM_ID], how="semi").height > LEAKED * here.height
