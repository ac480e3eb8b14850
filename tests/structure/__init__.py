"""The house keeps its own rules: floors, sizes, surface, state, Lua."""
