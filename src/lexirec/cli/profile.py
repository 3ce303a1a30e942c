"""``lexirec profile``: texts that say what each item is and what each user likes, from the training part of a split."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from lexirec.errors import InputError, nearest


def profile(
    data: Annotated[list[Path], typer.Option("--data", help="Folder with interactions and items; profiles are written for one at a time.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the profiles; whole or absent.")],
    split: Annotated[
        str | None,
        typer.Option("--split", help="Only its training part is read: leave-one-out (default), ratio, temporal, given[:FILE], all, ..."),
    ] = None,
    set_: Annotated[
        list[str],
        typer.Option(
            "--set", help="data.key=value as for fit, such as data.min_rating=4: the log is filtered before the split. Repeatable."
        ),
    ] = [],  # noqa: B006 (typer reads the default)
    llm: Annotated[
        str, typer.Option("--llm", help="plain writes without a language model; else the model's name at the server.")
    ] = "plain",
    versions: Annotated[int, typer.Option("--versions", help="Rephrased versions beside each profile; 0 for none.")] = 3,
    seed: Annotated[int, typer.Option("--seed", help="Of wordings and samples.")] = 0,
    collaborative: Annotated[
        bool, typer.Option(help="Tell what is chosen together, for whom and how popular it is (writer plain).")
    ] = True,
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="The model's server; else OPENAI_BASE_URL, else the public service.")
    ] = None,
    prompts: Annotated[str | None, typer.Option("--prompts", help="general (default), product, book, place or game.")] = None,
    concurrency: Annotated[int | None, typer.Option("--concurrency", help="Requests on their way at a time; 16 by default.")] = None,
    timeout: Annotated[float | None, typer.Option("--timeout", help="Seconds to wait for one answer; 60 by default.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", help="Longest answer; 400 by default. A model that thinks before it answers needs more.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", help="Hard limit of one run of the command: calls=1000,tokens=2000000,cost=5 (any).")
    ] = None,
    price: Annotated[str | None, typer.Option("--price", help="Money per million tokens read and written: 0.5,1.5.")] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="As the server understands it; its default if not given.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Ask and write nothing: show calls, tokens and cost, and whether the budget allows them.")
    ] = False,
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="Ask again where a known answer is not valid, and about people whose items get one by that."),
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the folder if it exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")] = False,
) -> None:
    """Write profiles of items and users. A language model's key comes from OPENAI_API_KEY; its answers are kept and never asked twice."""
    from lexirec import runs
    from lexirec.text.llm import LanguageModel
    from lexirec.text.llm_budget import Budget, Price
    from lexirec.text.lm_writer import LmWriter
    from lexirec.text.plain_writer import PlainWriter
    from lexirec.text.profiles import write_profiles

    if out.exists() and not (replace or dry_run):
        raise InputError(f"{out} exists already; choose another folder or give --replace")
    if len(data) > 1:
        raise InputError(f"--data is given {len(data)} times; profiles belong to one data set: run once for each, with an --out of its own")
    filters = _data_settings(set_, split)
    start = time.monotonic()
    model = None
    options = {"concurrency": concurrency, "timeout": timeout, "max_tokens": max_tokens, "temperature": temperature}
    chosen: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if llm == "plain":
        given = {"--base-url": base_url, "--prompts": prompts, "--budget": budget, "--price": price, "--retry-failed": retry_failed or None}
        given |= {f"--{name.replace('_', '-')}": value for name, value in chosen.items()}
        useless = [name for name, value in given.items() if value is not None]
        if useless:
            raise InputError(f"{', '.join(useless)}: the plain writer asks no language model; name one with --llm")
        writer: PlainWriter | LmWriter = PlainWriter(versions, seed, collaborative)
    else:
        if not collaborative:
            raise InputError("--no-collaborative has no effect with --llm: it is the plain writer's")
        model = LanguageModel(
            llm,
            base_url=base_url,
            budget=Budget.parse(budget) if budget is not None else None,
            price=Price.parse(price) if price is not None else None,
            dry_run=dry_run,
            retry_failed=retry_failed,
            **chosen,
        )
        writer = LmWriter(model, versions, family=prompts or "general", seed=seed, plain=PlainWriter(versions, seed))
    train = runs.load_parts([str(data[0])], filters).train
    profiles = writer.write(train)
    facts = {"out": str(out), "items": train.n_items, "users": train.n_users, "versions": versions, **profiles.facts}
    if dry_run:
        plan: dict[str, float | None] = {"calls": 0, "cached": 0, "input_tokens": 0, "output_tokens": 0, "cost": None, "fits_budget": None}
        fits = ""
        if model is not None:
            counted, limit = model.plan, model.spent.budget
            money = model.spent.price.of(counted.input_tokens, counted.output_tokens)
            passed = limit.passed(counted.calls, counted.input_tokens + counted.output_tokens, money)
            plan = {**vars(counted), "cost": money if price else None, "fits_budget": None if budget is None else not passed}
            if passed:
                fits = f"; more than the budget of {' and '.join(passed)}"
            elif budget is not None:
                fits = "; within the budget, if few are repaired or retried"
        if as_json:
            print(json.dumps({**plan, "items": train.n_items, "users": train.n_users}))
            return
        cost = f"{plan['cost']:.4g}" if plan["cost"] is not None else "unknown (give --price)" if model is not None else "nothing"
        print(f"{plan['calls']:,} calls ({plan['cached']:,} answers known), about {plan['input_tokens']:,} tokens read and", end=" ")
        print(f"{plan['output_tokens']:,} written, cost {cost}{fits}; nothing was asked or written")
        return
    write_profiles(out, profiles, train, replace=replace, **_split_and_filters(filters))
    facts["seconds"] = round(time.monotonic() - start, 3)
    if model is not None:
        spent = model.spent
        facts |= {"calls": spent.calls, "input_tokens": spent.input_tokens, "output_tokens": spent.output_tokens}
        if price:
            facts["cost"] = spent.cost
    if as_json:
        print(json.dumps(facts))
        return
    print(f"{out}: {train.n_items:,} items and {train.n_users:,} users, {versions + 1} versions each, in {facts['seconds']:.1f} s")
    if model is not None:
        print(f"{spent.calls:,} calls, {spent.input_tokens:,} tokens read, {spent.output_tokens:,} written", file=sys.stderr)


def _data_settings(sets: list[str], split: str | None) -> dict[str, Any]:
    """How the data is read, filtered and split: what ``data`` holds in an experiment of ``lexirec fit``.

    Raises:
        InputError: for a setting that is none of these.
    """
    from lexirec.runs import DATA_KEYS
    from lexirec.settings import parse_set

    known = [f"data.{key}" for key in DATA_KEYS if key != "mask_seen"]  # of the ranking, no matter to the training part
    found: dict[str, Any] = {"split": "leave-one-out"}
    for setting in sets:
        key, value = parse_set(setting)
        if key not in known:
            raise InputError(f"--set {key}: profiles have no such setting{nearest(key, known)}; there are {', '.join(known)}")
        found[key.removeprefix("data.")] = value
    return found if split is None else {**found, "split": split}


def _split_and_filters(settings: dict[str, Any]) -> dict[str, Any]:
    """For the record of a folder: the split's name, and what else the training part depends on."""
    others = {key: value for key, value in settings.items() if key != "split"}
    return {"split": settings["split"], **({"data": others} if others else {})}
