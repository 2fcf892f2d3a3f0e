"""The vocabulary: events, entities, wire form, journal format, limits, errors, settings and the fold. Imports nothing of ours."""
