"""What moves the data on: files that landed, the tick of each minute, and what Dagster is told of both.

Evaluated in the code location `pipelines`, whose process has dbt imported and its project parsed.
"""
