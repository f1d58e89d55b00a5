"""Submissions: window predictions in a competition's rows and columns."""
