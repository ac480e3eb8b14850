"""Pure decisions on sessions: one record per user, and each change of it one Script in two spellings."""
