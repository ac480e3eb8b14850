"""What a user's type checker says: files that only a checker runs, and a test that runs it."""
