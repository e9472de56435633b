"""CloudEvents SQL 1.0."""

class Expression:
    pass
