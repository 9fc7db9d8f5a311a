"""The checks of `jobmaster doctor`, by what they look at. Each answers findings; none changes anything."""
