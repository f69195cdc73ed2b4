"""What a user edits, read and checked: applications, calendars, jobs, SLOs and packages.

`models` says what a file may hold, `load` reads a folder and names everything that is wrong with it,
`calendars` turns a calendar into business dates, and `resolve` writes down one SLO entry with all that
its promise needs. Instants and occurrences are not made here: see `pipelines.slo.promises`.
"""
