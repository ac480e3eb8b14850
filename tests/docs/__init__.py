"""The pages tell the truth: their code runs, they build, and they read offline."""
