"""Other services that this one calls, each behind a protocol of the domain's."""
