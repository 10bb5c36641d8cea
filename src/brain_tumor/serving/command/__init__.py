"""The command `brain-tumor`: its arguments, what it does with them, and what it prints."""
