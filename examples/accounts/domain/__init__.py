"""What the service knows about accounts, whoever asks and wherever they are kept.

May import the standard library and `backendkit.errors`; no web framework, no database, no validation library.
"""
