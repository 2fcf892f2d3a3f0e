"""The first version: all tables, as they were then, and the experiment that always exists."""

from __future__ import annotations

from alembic import op
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

from flightlog.stores.sql.migrations.steps import create_tables, seed
from flightlog.stores.sql.texts import ExactText

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BigKey = BigInteger().with_variant(Integer, "sqlite")
LongText = ExactText()
LongBlob = LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
Exact = ExactText(256)
Stamp = ExactText(64)


def _text_index(name: str) -> Index:
    """Return the index that answers a search for a key's value by itself, where the database can have it."""
    index = Index(name, "key", "value", "run", mysql_length={"value": 128}, mariadb_length={"value": 128})
    return index.ddl_if(callable_=_indexes_text)


def _indexes_text(*_: object, dialect: Dialect, **__: object) -> bool:
    """Say whether a text of any length can be in an index: PostgreSQL and SQL Server bound the size of an index row."""
    return dialect.name in ("sqlite", "mysql", "mariadb")


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
    Column("writer", ExactText(32), nullable=False),
    Column("next_sequence", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    UniqueConstraint("subject", "writer"),
)

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

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("writer_id", ForeignKey("writers.id"), nullable=False, index=True),
    Column("sequence", BigInteger, nullable=False),
    Column("count", BigInteger),
    Column("reason", ExactText(32), nullable=False),
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
    Column("lifecycle_stage", ExactText(16), nullable=False),
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
    Column("status", ExactText(16), nullable=False),
    Column("start_time", BigInteger, nullable=False),
    Column("end_time", BigInteger),
    Column("lifecycle_stage", ExactText(16), nullable=False),
    Column("artifact_uri", LongText),
    Column("started", SmallInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
    Column("status_stamp", Stamp, nullable=False),
    Column("lifecycle_stamp", Stamp, nullable=False),
    Index("ix_runs_experiment_id_start_time", "experiment_id", "start_time"),
)

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
    Index("ix_metric_chunks_run_metric_count", "run", "metric", "count"),
    _reference("run", "runs.id"),
    _reference("metric", "metric_names.id"),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("run", ForeignKey("runs.id"), primary_key=True),
    Column("path_hash", ExactText(64), primary_key=True),
    Column("path", LongText, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("snapshot", LongText, nullable=False),
    Column("sha256", ExactText(64)),
    Column("state", ExactText(16), nullable=False, index=True),
    Column("reason", LongText),
    Column("stamp", Stamp, nullable=False),
)


def upgrade() -> None:
    """Go from an empty database to this version."""
    connection = op.get_bind()
    create_tables(connection, metadata.sorted_tables)
    default = {"experiment_id": 0, "name": "Default", "artifact_location": "", "lifecycle_stage": "active"}
    times = {"creation_time": 0, "last_update_time": 0, "lifecycle_stamp": "", "name_stamp": ""}
    seed(connection, experiments, [{**default, **times}])


def downgrade() -> None:
    """Go back to an empty database."""
    metadata.drop_all(op.get_bind())
