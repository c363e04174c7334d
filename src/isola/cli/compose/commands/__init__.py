"""The verbs of ``isola compose``, grouped by what they are about; ``cli/commands/compose.py`` puts them together."""
