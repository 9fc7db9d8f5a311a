"""Values: frozen, typed, without input or output. Everything above may import them; they import nothing of the project."""
