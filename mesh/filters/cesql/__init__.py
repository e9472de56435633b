"""CloudEvents SQL 1.0: `compile_expression`, and what it gives back. Pure.

`parse.py` reads, `ast.py` is the tree, `evaluate.py` defines what it means, `generate.py` makes it fast, `functions.py` and
`like.py` are what the language brings along. Importing this does not import the parser's library.
"""

from mesh.filters.cesql.expression import Expression, compile_expression
from mesh.filters.cesql.parse import ParseError
from mesh.filters.cesql.values import Problem

__all__ = ["Expression", "ParseError", "Problem", "compile_expression"]
