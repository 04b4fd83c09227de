"""The stages of the line, one room each. See the README's picture for their order."""
