"""Root: the version, in its only place; `setup.py` reads it from this file's text."""

__version__ = "0.1.0"
