"""A value for each setting whose variable takes no number."""

SAMPLES = {
    "asynchronous": "false",
    "start_worker": "false",
    "spool_full": "raise",
    "follow_links": "true",
    "progress_bar": "true",
    "lost_after": "90",
    "log_format": "json",
    "log_level": "debug",
    "logging_level": "debug",
    "truncate_long_values": "false",
    "system_metrics": "true",
}
