"""Where accounts are kept: SQLAlchemy 2, on SQLite unless a URL names another database. Knows no web."""
