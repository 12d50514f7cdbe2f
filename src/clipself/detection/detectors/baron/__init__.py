"""BARON-KD: regions as pseudo words."""
