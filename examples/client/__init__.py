"""The demo's client: plays scenes against every front of the accounts service and compares what they answer.

`scenes/` says what is asked and expected, one file a feature; the rest says how it is played.
"""
