"""Who watches the watcher: the nine ways in which Duemark itself fails, each told once, and its end.

`observed` reads (Dagster's tables, code servers, the outbox), `findings` judges (no clock, no connection), `look`
writes incidents and their messages. A sensor of the location `oncall` looks from inside, `duemark watch` from outside:
the same look, so that either is enough, and both together tell nothing twice.
"""
