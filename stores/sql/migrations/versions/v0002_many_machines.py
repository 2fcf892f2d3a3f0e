"""Many machines: locks for several workers, attempts and lost runs, archives of ledgers, tombstones of purged runs."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, ForeignKey, Integer, MetaData, SmallInteger, Table

from flightlog.stores.sql.migrations.steps import add_columns, create_tables, seed
from flightlog.stores.sql.texts import ExactText

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STRIPES = 64
LongText = ExactText()
Exact = ExactText(256)
BigKey = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
runs = Table("runs", metadata, Column("id", BigKey, primary_key=True))  # what the new tables refer to
writers = Table("writers", metadata, Column("id", BigKey, primary_key=True), Column("attempt", Integer))

stripes = Table("stripes", metadata, Column("id", SmallInteger, primary_key=True, autoincrement=False))

attempts = Table(
    "attempts",
    metadata,
    Column("run", ForeignKey("runs.id"), primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("time", BigInteger, nullable=False),
    Column("from_step", BigInteger),
)

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
    Column("sha256", ExactText(64), nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("state", ExactText(16), nullable=False),
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("subject", Exact, primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("experiment_id", BigInteger),
    Column("dropped", BigInteger, nullable=False),
)


def upgrade() -> None:
    """Add what is new; rows that are there take the defaults."""
    connection = op.get_bind()
    create_tables(connection, [stripes, attempts, archives, tombstones])
    seed(connection, stripes, [{"id": number} for number in range(STRIPES)])
    add_columns(connection, "writers", Column("attempt", Integer))
    op.execute(writers.update().where(writers.c.attempt.is_(None)).values(attempt=0))
    add_columns(connection, "runs", _attempt(), Column("status_reason", LongText), Column("lost_status", ExactText(16)))
    add_columns(connection, "metric_chunks", _attempt())
    if connection.dialect.name == "postgresql":
        for table in ("ledger", "metric_chunks"):  # what is compressed already is not worth a second try
            op.execute(f"ALTER TABLE {table} ALTER COLUMN body SET STORAGE EXTERNAL")


def _attempt() -> Column[int]:
    return Column("attempt", Integer, nullable=False, server_default="0")


def downgrade() -> None:
    """Go back to one machine; attempts, archives and tombstones are forgotten."""
    for table, column in (("metric_chunks", "attempt"), ("runs", "lost_status"), ("runs", "status_reason"), ("runs", "attempt")):
        op.drop_column(table, column)
    op.drop_column("writers", "attempt")
    metadata.drop_all(op.get_bind(), tables=[tombstones, archives, attempts, stripes])
