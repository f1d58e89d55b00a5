"""Containers: the structure of sound files, read from their bytes and not by their decoder.

libsndfile takes what a header says for the end of the sound. Here sizes, frames and pages are
compared with the file itself, so that what a header leaves out is decoded too, and what is missing
is known. Nothing here decodes.
"""
