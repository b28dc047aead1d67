"""Speed and memory against a named baseline of the same run: `python -m benchmarks`.

One file a benchmark, named like it, with a function `measure(size)`. `listing` names them all.
Nothing here is part of the installed package.
"""
