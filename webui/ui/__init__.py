"""The page and the server that carries it."""
