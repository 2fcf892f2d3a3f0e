"""System metrics: what the machine does while a run runs, read at a pace of its own and logged to the run."""
