"""Datasets and models: what runs used and what they made."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Dialect, ForeignKey, Index, Integer, MetaData, Table

from flightlog.stores.sql.migrations.steps import create_tables
from flightlog.stores.sql.texts import ExactText

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

LongText = ExactText()
BigKey = BigInteger().with_variant(Integer, "sqlite")


def _dataset_index(column: str) -> Index:
    """Return the index of a text of at most 500 characters, where the database can have one of a column without a bound."""
    lengths = {column: 128}
    index = Index(f"ix_dataset_inputs_{column}_run", column, "run", mysql_length=lengths, mariadb_length=lengths)
    return index.ddl_if(callable_=_indexes_bounded_text)


def _indexes_bounded_text(*_: object, dialect: Dialect, **__: object) -> bool:
    return dialect.name != "mssql"


metadata = MetaData(naming_convention={"fk": "fk_%(table_name)s_%(column_0_name)s", "pk": "pk_%(table_name)s"})
runs = Table("runs", metadata, Column("id", BigKey, primary_key=True))  # what the new tables refer to

dataset_inputs = Table(
    "dataset_inputs",
    metadata,
    Column("run", ForeignKey("runs.id"), primary_key=True),
    Column("identity", ExactText(64), primary_key=True),
    Column("name", LongText, nullable=False),
    Column("digest", LongText, nullable=False),
    Column("context", LongText),
    Column("source_type", LongText, nullable=False),
    Column("source", LongText, nullable=False),
    Column("dataset_schema", LongText),
    Column("profile", LongText),
    Column("tags", LongText, nullable=False),
    Column("stamp", ExactText(64), nullable=False),
    _dataset_index("name"),
    _dataset_index("digest"),
    _dataset_index("context"),
)

run_models = Table(
    "run_models",
    metadata,
    Column("run", ForeignKey("runs.id"), primary_key=True),
    Column("role", ExactText(16), primary_key=True),
    Column("model_id", ExactText(256), primary_key=True),
    Column("step", BigInteger, nullable=False),
    Column("stamp", ExactText(64), nullable=False),
)


def upgrade() -> None:
    """Add the tables."""
    create_tables(op.get_bind(), [dataset_inputs, run_models])


def downgrade() -> None:
    """Remove the tables; the events stay in the ledger."""
    metadata.drop_all(op.get_bind(), tables=[run_models, dataset_inputs])
