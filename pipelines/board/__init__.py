"""The board: what the marts say, as pages that need no server.

`read` asks the marts, `render` makes the pages of what it read and nothing else: the same marts give the same bytes.
"""
