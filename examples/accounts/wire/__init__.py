"""What travels: the shapes of requests and the bytes of answers, one module a feature. Knows no web framework.

Both fronts parse by these models and answer with these bytes, which is why they answer alike.
"""
