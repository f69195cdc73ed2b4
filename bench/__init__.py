"""Speed, measured against plain SQL and COPY in the same run: `python -m bench.run`."""
