"""The tables. Positions, ledger and dead letters are the truth; all others are projections and can be rebuilt from the ledger.

Runs, writers and metric names have small integer keys, so that no wide string is repeated in an index. Times are ms since the epoch.

A float is stored so that every database can hold and compare it: in a `*_value` column NaN is 0 and an infinity the greatest finite
number of its sign (as MLflow stores them); `specials` has two bits for each such column that say what it really was, 0 itself, 1 NaN,
2 +inf, 3 -inf: bits 0-1 last, 2-3 first, 4-5 min, 6-7 max. Bits 8 to 11, in the same order, say that a 0 was -0.0, whose sign a
database may forget.

A *stamp* orders competing changes (see `schema.fold`): time as 16 hexadecimal digits, the writer, sequence as 16 hexadecimal digits.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql

from flightlog.stores.sql.texts import ExactText

BigKey = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only in a column that is exactly INTEGER."""
LongText = ExactText()
LongBlob = LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
Exact = ExactText(256)
Word = ExactText(32)
State = ExactText(16)
Hash = ExactText(64)
Stamp = ExactText(64)
STRIPES = 64
"""A multiple of the number of queue shards, so that workers on different shards never wait for each other."""


def _text_index(name: str) -> Index:
    """Return the index that answers a search for a key's value by itself, where the database can have it."""
    index = Index(name, "key", "value", "run", mysql_length={"value": 128}, mariadb_length={"value": 128})
    return index.ddl_if(callable_=_indexes_text)


def _indexes_text(*_: object, dialect: Dialect, **__: object) -> bool:
    """Say whether a text of any length can be in an index: PostgreSQL and SQL Server bound the size of an index row."""
    return dialect.name in ("sqlite", "mysql", "mariadb")


def _dataset_index(column: str) -> Index:
    """Return the index of a text of at most 500 characters, where the database can have one of a column without a bound."""
    lengths = {column: 128}
    index = Index(f"ix_dataset_inputs_{column}_run", column, "run", mysql_length=lengths, mariadb_length=lengths)
    return index.ddl_if(callable_=_indexes_bounded_text)


def _indexes_bounded_text(*_: object, dialect: Dialect, **__: object) -> bool:
    return dialect.name != "mssql"


def _reference(column: str, target: str) -> ForeignKeyConstraint:
    """Return the reference of a table that takes rows by the thousand: a check of each row would take longer than all else.

    On SQLite such a check costs little. Elsewhere it would lock the row referred to as well, and workers would wait for each other.
    """
    constraint = ForeignKeyConstraint([column], [target])
    constraint.ddl_if("sqlite")
    return constraint


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

writers = Table(
    "writers",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("subject", Exact, nullable=False),
    Column("writer", Word, nullable=False),
    Column("next_sequence", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("attempt", Integer),
    UniqueConstraint("subject", "writer"),
)
"""The positions: `next_sequence` is the next that the store expects. `updated` is the store's clock.

`attempt` is that of the run to which the writer's events belong, NULL as long as none has come.
"""

stripes = Table("stripes", metadata, Column("id", SmallInteger, primary_key=True, autoincrement=False))
"""`STRIPES` rows that are there to be locked: whoever changes a subject holds the row of its stripe."""

ledger = Table(
    "ledger",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("writer_id", BigKey, nullable=False),
    Column("first_sequence", BigInteger, nullable=False),
    Column("count", Integer, nullable=False),
    Column("body", LongBlob, nullable=False),
    UniqueConstraint("writer_id", "first_sequence"),
    _reference("writer_id", "writers.id"),
)
"""The blocks, insert-only, in the order of their application; `body` is that of `schema.blocks`."""

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("writer_id", ForeignKey("writers.id"), nullable=False, index=True),
    Column("sequence", BigInteger, nullable=False),
    Column("count", BigInteger),
    Column("reason", Word, nullable=False),
    Column("message", LongText, nullable=False),
    Column("payload", LongBlob, nullable=False),
    Column("time", BigInteger, nullable=False),
)

experiments = Table(
    "experiments",
    metadata,
    Column("experiment_id", BigInteger, primary_key=True, autoincrement=False),
    Column("name", ExactText(500), nullable=False, unique=True),
    Column("artifact_location", LongText, nullable=False),
    Column("lifecycle_stage", State, nullable=False),
    Column("creation_time", BigInteger, nullable=False),
    Column("last_update_time", BigInteger, nullable=False),
    Column("lifecycle_stamp", Stamp, nullable=False),
    Column("name_stamp", Stamp, nullable=False),
)

experiment_tags = Table(
    "experiment_tags",
    metadata,
    Column("experiment_id", ForeignKey("experiments.experiment_id"), primary_key=True),
    Column("key", Exact, primary_key=True),
    Column("value", LongText),
    Column("stamp", Stamp, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("run_id", Exact, nullable=False, unique=True),
    Column("experiment_id", BigInteger, nullable=False),
    Column("name", LongText),
    Column("user_id", LongText, nullable=False),
    Column("status", State, nullable=False),
    Column("start_time", BigInteger, nullable=False),
    Column("end_time", BigInteger),
    Column("lifecycle_stage", State, nullable=False),
    Column("artifact_uri", LongText),
    Column("started", SmallInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
    Column("status_stamp", Stamp, nullable=False),
    Column("lifecycle_stamp", Stamp, nullable=False),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("status_reason", LongText),
    Column("lost_status", State),
    Index("ix_runs_experiment_id_start_time", "experiment_id", "start_time"),
)
"""`started` is 0 for a run of which only other events than its start have come. `name` repeats the tag mlflow.runName.

`lost_status` is what the status was before the run was taken for lost, NULL for one that is not.
"""

attempts = Table(
    "attempts",
    metadata,
    Column("run", ForeignKey("runs.id"), primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("time", BigInteger, nullable=False),
    Column("from_step", BigInteger),
)
"""The attempts of a run after the first, which has the number 0. `from_step` is where a rewound one begins: earlier points from there on
are not shown by default."""

params = Table(
    "params",
    metadata,
    Column("run", ForeignKey("runs.id"), primary_key=True),
    Column("key", Exact, primary_key=True),
    Column("value", LongText, nullable=False),
    _text_index("ix_params_key_value_run"),
    sqlite_with_rowid=False,
)

tags = Table(
    "tags",
    metadata,
    Column("run", ForeignKey("runs.id"), primary_key=True),
    Column("key", Exact, primary_key=True),
    Column("value", LongText),
    Column("stamp", Stamp, nullable=False),
    _text_index("ix_tags_key_value_run"),
    sqlite_with_rowid=False,
)
"""A value of NULL is a deleted tag, kept for its stamp."""

metric_names = Table(
    "metric_names",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("name", Exact, nullable=False, unique=True),
)

latest_metrics = Table(
    "latest_metrics",
    metadata,
    Column("run", BigKey, primary_key=True),
    Column("metric", BigKey, primary_key=True),
    Column("last_value", Double, nullable=False),
    Column("last_step", BigInteger, nullable=False),
    Column("last_time", BigInteger, nullable=False),
    Column("first_value", Double, nullable=False),
    Column("first_step", BigInteger, nullable=False),
    Column("first_time", BigInteger, nullable=False),
    Column("min_value", Double),
    Column("min_step", BigInteger),
    Column("min_time", BigInteger),
    Column("max_value", Double),
    Column("max_step", BigInteger),
    Column("max_time", BigInteger),
    Column("count", BigInteger, nullable=False),
    Column("non_finite", BigInteger, nullable=False),
    Column("specials", SmallInteger, nullable=False),
    Index("ix_latest_metrics_metric_last_value", "metric", "last_value", "specials", "run"),
    _reference("run", "runs.id"),
    _reference("metric", "metric_names.id"),
    sqlite_with_rowid=False,
)

metric_chunks = Table(
    "metric_chunks",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("run", BigKey, nullable=False),
    Column("metric", BigKey, nullable=False),
    Column("count", Integer, nullable=False),
    Column("min_step", BigInteger, nullable=False),
    Column("max_step", BigInteger, nullable=False),
    Column("min_value", Double),
    Column("max_value", Double),
    Column("first_value", Double),
    Column("last_value", Double),
    Column("body", LongBlob, nullable=False),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Index("ix_metric_chunks_run_metric_count", "run", "metric", "count"),
    _reference("run", "runs.id"),
    _reference("metric", "metric_names.id"),
)
"""A history in columns, some thousand points a row; see `history` for the body. Values are NULL where not finite, or -0.0."""

artifacts = Table(
    "artifacts",
    metadata,
    Column("run", ForeignKey("runs.id"), primary_key=True),
    Column("path_hash", Hash, primary_key=True),
    Column("path", LongText, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("snapshot", LongText, nullable=False),
    Column("sha256", Hash),
    Column("state", State, nullable=False, index=True),
    Column("reason", LongText),
    Column("stamp", Stamp, nullable=False),
)
"""`path_hash` is the path's SHA-256: a path may be longer than an index allows."""

dataset_inputs = Table(
    "dataset_inputs",
    metadata,
    Column("run", ForeignKey("runs.id"), primary_key=True),
    Column("identity", Hash, primary_key=True),
    Column("name", LongText, nullable=False),
    Column("digest", LongText, nullable=False),
    Column("context", LongText),
    Column("source_type", LongText, nullable=False),
    Column("source", LongText, nullable=False),
    Column("dataset_schema", LongText),
    Column("profile", LongText),
    Column("tags", LongText, nullable=False),
    Column("stamp", Stamp, nullable=False),
    _dataset_index("name"),
    _dataset_index("digest"),
    _dataset_index("context"),
)
"""The datasets that a run used. `identity` is a hash of name and digest, `tags` a JSON object, `context` repeats one of them."""

run_models = Table(
    "run_models",
    metadata,
    Column("run", ForeignKey("runs.id"), primary_key=True),
    Column("role", State, primary_key=True),
    Column("model_id", Exact, primary_key=True),
    Column("step", BigInteger, nullable=False),
    Column("stamp", Stamp, nullable=False),
)
"""The models that a run used, in the role "input", and that it made, in the role "output"."""

archives = Table(
    "archives",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("subject", Exact, nullable=False, index=True),
    Column("uri", LongText, nullable=False),
    Column("first_place", BigInteger, nullable=False),
    Column("last_place", BigInteger, nullable=False, index=True),
    Column("events", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", Hash, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("state", State, nullable=False),
)
"""Where the ledger of an ended run has gone: its rows are no longer in `ledger`, where they had the keys `first_place` to `last_place`.

That is so in the state "kept". A file is "writing" until its rows have left the ledger, and "going" once they are back, or were never gone.
"""

tombstones = Table(
    "tombstones",
    metadata,
    Column("subject", Exact, primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("experiment_id", BigInteger),
    Column("dropped", BigInteger, nullable=False),
)
"""Runs and experiments that were purged: what still comes of them is dropped and counted. `experiment_id` is where a run had been."""
