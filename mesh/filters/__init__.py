"""Does this trigger want this event? Filters as values, what they say of an event, and an index over many. Pure.

`build.py` reads YAML into nodes, `dialects.py` says what a node means, `index.py` matches one event with many triggers,
`cesql/` is CloudEvents SQL. The data of an event is never visible to a filter.
"""
