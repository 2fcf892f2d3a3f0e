"""What filters and orders mean, as tables: every store is held to them."""

from __future__ import annotations

import math

from contracts.state_rows import summary
from flightlog.schema.entities import Dataset
from flightlog.schema.fold import NEVER, DatasetState, RunState, Stamped
from flightlog.schema.names import CONTEXT_TAG, RUN_NAME_TAG


def stamped(**values: str | None) -> dict[str, Stamped]:
    return {key.replace("__", "."): Stamped(value, NEVER) for key, value in values.items()}


RUN = RunState(
    run_id="r1",
    status="RUNNING",
    user_id="ada",
    start_time=100,
    params={"lr": "0.1", "empty": "", "umlaut": "Ä"},
    tags={**stamped(team="Blue_1", gone=None), RUN_NAME_TAG: Stamped("first", NEVER)},
    datasets={
        ("digits", "1f"): DatasetState(Dataset("digits", "1f", "code", "{}"), {CONTEXT_TAG: "train"}, NEVER),
        ("words", "2e"): DatasetState(Dataset("words", "2e", "code", "{}"), {"other": "x"}, NEVER),
    },
    metrics={
        "begins": summary("begins", math.nan, 0.0),
        "loss": summary("loss", 3.0, 1.0, 2.0),
        "nan": summary("nan", 1.0, math.nan),
        "nans": summary("nans", math.nan),
        "inf": summary("inf", -math.inf, math.inf),
        "acc": summary("acc", 0.1),
        "acc.max": summary("acc.max", 7.0),
    },
)

MEANINGS = [
    ("metrics.loss = 2", True),
    ("metrics.loss < 2", False),
    ("metrics.loss.min = 1 and metrics.loss.max = 3 and metrics.loss.first = 3 and metrics.loss.last = 2", True),
    ("metrics.loss.count = 3 AND metrics.loss.count < 3.5", True),
    ("metrics.loss.count != 3", False),
    ("metrics.acc.max = 7", True),
    ("metrics.acc.max = 0.1", False),
    ("metrics.acc.min = 0.1", True),
    ("metrics.missing != 1", False),
    ("NOT metrics.missing != 1", True),
    ("metrics.missing.min != 1", False),
    ("metrics.nan = 0", False),
    ("metrics.nan < 1 OR metrics.nan >= 1", False),
    ("metrics.nan != 0", True),
    ("metrics.nan.min = 1", True),
    ("metrics.nans.min != 1", False),
    ("metrics.begins.first = 0 OR metrics.begins.first < 1", False),
    ("metrics.begins.first != 0 AND metrics.begins.last = 0", True),
    ("metrics.inf = 1e999 AND metrics.inf = 1.7976931348623157e308", True),
    ("metrics.inf > 1e999", False),
    ("metrics.inf.min = -1e999", True),
    ("params.lr = '0.1'", True),
    ("params.lr != '0.1'", False),
    ("params.missing != '0.1'", False),
    ("params.missing IS NULL AND params.lr IS NOT NULL", True),
    ("params.empty IS NULL", False),
    ("params.empty LIKE '%'", True),
    ("params.lr LIKE '0._'", True),
    ("params.lr LIKE '0.'", False),
    ("params.lr LIKE '%1%.%'", False),
    ("params.lr LIKE '%.%1%'", True),
    ("params.umlaut ILIKE 'ä'", False),
    ("params.umlaut ILIKE 'Ä'", True),
    ("tags.team LIKE 'blue%'", False),
    ("tags.team ILIKE 'bLUE%'", True),
    ("tags.team LIKE 'Blue\\_1'", False),
    ("tags.gone IS NULL", True),
    ("tags.gone != 'x'", False),
    ("run_name = 'first' AND status = 'RUNNING' AND user_id = 'ada'", True),
    ("status = 'running'", False),
    ("run_id IN ('r0', 'r1')", True),
    ("run_id NOT IN ('r0', 'r1')", False),
    ("start_time >= 99.5 AND start_time = 100", True),
    ("start_time < 100.5 AND start_time > 99.5 AND start_time <= 100.5", True),
    ("start_time < 99.5 OR start_time > 100.5 OR start_time = 100.5", False),
    ("start_time < 100 OR start_time > 100 OR start_time != 100", False),
    ("end_time != 5", False),
    ("artifact_uri LIKE '%'", False),
    ("dataset.name = 'digits'", True),
    ("dataset.name != 'digits'", True),
    ("NOT dataset.name = 'digits'", False),
    ("datasets.name IN ('x', 'words') AND dataset.digest = '1f'", True),
    ("dataset.name NOT IN ('digits', 'words')", False),
    ("dataset.digest LIKE '1_'", True),
    ("dataset.context = 'train' AND dataset.name = 'words'", True),
    ("dataset.context ILIKE 'TR%'", True),
    ("dataset.context != 'train'", False),
    ("metrics.loss = 5 OR NOT (params.lr = 'x' AND run_id = 'r1')", True),
]
"""Whether RUN matches."""

ORDERED = [
    RunState("a", start_time=1, params={"p": "x" * 256 + "2"}, metrics={"m": summary("m", 5.0, 1.0), "m.max": summary("m.max", 0.0)}),
    RunState("b", start_time=2, params={"p": "x" * 256 + "1"}, metrics={"m": summary("m", 3.0, 2.0)}),
    RunState("c", start_time=3, params={"p": "X"}, end_time=5, metrics={"m": summary("m", math.nan, 3.0)}),
    RunState("d", start_time=3, params={"p": "é"}, metrics={"m": summary("m", math.nan)}),
    RunState("e", start_time=5, end_time=4),
]

ORDERS = [
    ([], "ecdba"),
    (["start_time"], "abcde"),
    (["metrics.m"], "abcde"),
    (["metrics.m DESC"], "cbade"),
    (["metrics.m.max"], "acbed"),
    (["metrics.m.max DESC"], "cbaed"),
    (["metrics.m.first"], "bacde"),
    (["metrics.m.first DESC"], "abcde"),
    (["metrics.m.count DESC"], "cbade"),
    (["params.p"], "cbade"),
    (["params.p DESC"], "dbace"),
    (["end_time"], "ecdba"),
    (["end_time DESC"], "cedba"),
    (["metrics.missing", "run_id DESC"], "edcba"),
]
"""The run ids of ORDERED in an order. Texts that agree in their first 250 characters are ties."""
