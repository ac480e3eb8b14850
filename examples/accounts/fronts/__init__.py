"""The service behind two frameworks. A front translates; whatever it would decide belongs elsewhere."""
