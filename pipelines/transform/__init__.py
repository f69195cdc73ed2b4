"""The dbt project as assets, and the tick that runs it.

What belongs here: running dbt, the tick's control row, publishing the marts. What a mart means stands in
`dbt_project/`; what a subject adds to the graph stands with the subject.
"""
