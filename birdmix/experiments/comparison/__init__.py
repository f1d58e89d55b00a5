"""Comparison of arms, such as mixes: replicated runs, paired statistics, tables and a page."""
