"""The verbs. Each file states its ``COMMANDS``; ``isola.cli.index`` says which file knows which verb."""
