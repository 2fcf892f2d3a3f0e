"""Where the write side and the read side meet: gives the write side the few look-ups that it asks of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flightlog.producer.context import context

if TYPE_CHECKING:
    from flightlog.schema.entities import Experiment, Run


class StoreLookup:
    """`producer.context.Lookup` over the current store, opened when it is first asked."""

    def run(self, run_id: str) -> Run:
        """Return a run as the store knows it."""
        from flightlog import reading  # noqa: PLC0415 - SQLAlchemy takes long to import

        return reading.reader().get_run(run_id)

    def experiment(self, experiment_id: str) -> Experiment:
        """Return an experiment as the store knows it."""
        from flightlog import reading  # noqa: PLC0415 - SQLAlchemy takes long to import

        return reading.get_experiment(experiment_id)

    def experiment_named(self, name: str) -> Experiment | None:
        """Return the experiment of a name as the store knows it."""
        from flightlog import reading  # noqa: PLC0415 - SQLAlchemy takes long to import

        return reading.get_experiment_by_name(name)


context.lookup = StoreLookup()
