"""Files -> raw rows: the one mechanism that every feed uses.

What belongs here: the contract of a feed (`feed`), finding files (`source`), reading them record by record in
flat memory (`formats`), the loader (`ingest`) with its ledger (`ledger`), the way in of rows that come without a file
(`append`). What a record of a feed must look like belongs to the subject that
declares the feed; a subject's record lists those.
"""
