"""The command `knit`: one module a subcommand, loaded when it is called. Nothing here is imported by the rest."""
