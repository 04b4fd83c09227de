"""Measurements and long checks: not part of the program, and run by hand."""
