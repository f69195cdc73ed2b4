"""Who may do what: clients of the catalog, the tokens by which they are known, and the one place that decides."""
