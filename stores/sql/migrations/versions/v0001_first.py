"""The first version: all tables, and the experiment that always exists."""

from __future__ import annotations

from alembic import op

from flightlog.stores.experiments import default_experiment
from flightlog.stores.sql.states import experiment_row
from flightlog.stores.sql.tables import experiments, metadata

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go from an empty database to this version."""
    metadata.create_all(op.get_bind())
    op.bulk_insert(experiments, [experiment_row(default_experiment())])
