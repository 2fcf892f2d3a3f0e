"""What Alembic runs: the migrations, on the connection that the caller opened and will commit."""

from alembic import context

from flightlog.stores.sql.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
