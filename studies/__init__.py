"""Studies behind the pages of docs/results that are too many runs to type."""
