"""Bytes -> chunks of records, in flat memory: a module for each format, and what they share.

`read` is the way in: it picks the format by a file's name. Text goes through `lines` to `delimited` (CSV), `ndjson` or
`plain`; Parquet through `parquet`, bounded by `parquet_sizes`, which reads the headers in `parquet_pages`, its values
made texts by `parquet_values`. `columns` finds the feed's columns, `compressed` unpacks, `records` is what all give.
"""
