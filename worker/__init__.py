"""Facts being filed: the ingest loop, its sources, artifact uploads and housekeeping."""
