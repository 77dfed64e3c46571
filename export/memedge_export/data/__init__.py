"""Data sets as records: a picture's or a video's path, its scores and its split."""

from .folds import folds, with_fold
from .readers import open_data, parse
from .records import DataSet, Record

__all__ = ["DataSet", "Record", "folds", "open_data", "parse", "with_fold"]
