"""The command `flightlog`: a worker, and looks at journals, runs and the installation. `docs/cli.md` describes it."""
