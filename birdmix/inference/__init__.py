"""Listening: folders of recordings to window predictions, and the tables made of them."""
