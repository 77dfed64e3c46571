"""Data sets as records: a picture's path, its score and its split."""

from .readers import open_data, parse
from .records import DataSet, Record

__all__ = ["DataSet", "Record", "open_data", "parse"]
