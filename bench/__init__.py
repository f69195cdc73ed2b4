"""Speed, measured against plain SQL and COPY in the same run: `python -m bench.run`."""

import pipelines.subjects  # noqa: F401 # hands the subjects in
