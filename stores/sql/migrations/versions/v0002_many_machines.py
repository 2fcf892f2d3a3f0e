"""Many machines: locks for several workers, attempts and lost runs, archives of ledgers, tombstones of purged runs."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, ForeignKey, Integer, MetaData, SmallInteger, String, Table, Text
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STRIPES = 64
LongText = Text().with_variant(mysql.LONGTEXT(collation="utf8mb4_bin"), "mysql", "mariadb")
Exact = String(256, collation=None).with_variant(mysql.VARCHAR(256, collation="utf8mb4_bin"), "mysql", "mariadb")
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
    Column("events", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("time", BigInteger, nullable=False),
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("subject", Exact, primary_key=True),
    Column("time", BigInteger, nullable=False),
)


def upgrade() -> None:
    """Add what is new; rows that are there take the defaults."""
    connection = op.get_bind()
    metadata.create_all(connection, tables=[stripes, attempts, archives, tombstones])
    op.bulk_insert(stripes, [{"id": number} for number in range(STRIPES)])
    op.add_column("writers", Column("attempt", Integer))
    op.execute(writers.update().values(attempt=0))
    op.add_column("runs", Column("attempt", Integer, nullable=False, server_default="0"))
    op.add_column("runs", Column("status_reason", LongText))
    op.add_column("runs", Column("lost_status", String(16)))
    op.add_column("metric_chunks", Column("attempt", Integer, nullable=False, server_default="0"))


def downgrade() -> None:
    """Go back to one machine; attempts, archives and tombstones are forgotten."""
    for table, column in (("metric_chunks", "attempt"), ("runs", "lost_status"), ("runs", "status_reason"), ("runs", "attempt")):
        op.drop_column(table, column)
    op.drop_column("writers", "attempt")
    metadata.drop_all(op.get_bind(), tables=[tombstones, archives, attempts, stripes])
