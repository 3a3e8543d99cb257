"""The nouns: frozen structs of msgspec, the only import here beside the standard library."""
