"""Values: frozen, typed, without input or output. Everything may import them; they import only the project's errors."""
