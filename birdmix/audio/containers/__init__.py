"""Container formats: find the streams of an audio file and correct wrong headers, without decoding.

libsndfile stops at the end that a header states. Here stated sizes, frames and pages are compared
with the file itself, so that samples beyond the stated end are decoded too, and missing samples are
reported.
"""
