"""What the service knows about accounts, whoever asks and wherever they are kept.

May import the standard library, and of backendkit what knows no framework; no web framework, no database.
"""
