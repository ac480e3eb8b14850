"""Pure decisions of the cache: entries as bytes, the scripts of the second tier, when to refresh."""
