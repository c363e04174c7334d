"""The language: lines, words, variables, instructions, stages. Pure, and bounded, as files come from users."""
