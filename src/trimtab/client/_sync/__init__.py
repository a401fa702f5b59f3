# Made by `python -m tools.unasync` from src/trimtab/client/_async/__init__.py; change that one.
"""The client for plain threads."""
