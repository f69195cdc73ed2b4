"""All that Duemark uses of Dagster and Dagster does not publish: its tables, its wire, its private names.

Another version of Dagster may change any of it, so it stands here and nowhere else (`tests/house/test_dagster.py`),
and `tests/orchestration/test_dagster_private.py` tries each of it on the Dagster that is installed. What is decided
from it stands with those who ask.

`tables` and `servers` import nothing of Dagster: who asks how Dagster is must answer when it is broken, and in little
memory. `calls` imports it when it is called, `classes` at once.
"""
