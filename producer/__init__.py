"""Facts being made: the fluent API, run handles, the recorder, the journal, and the process's life (threads, fork, signals, exit)."""
