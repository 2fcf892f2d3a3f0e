"""Where a worker takes blocks from."""
