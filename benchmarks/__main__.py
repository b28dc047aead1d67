"""`python -m benchmarks`: one JSON object a line on stdout, words for people on stderr."""

import argparse
import sys
import time
from typing import get_args

from benchmarks.listing import NAMES, run
from benchmarks.measurement import Size
from fedvol.cli.environment import prepare_environment


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=NAMES, help="may be repeated")
    parser.add_argument("--size", default="default", choices=get_args(Size))
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(NAMES))
        return
    prepare_environment()
    for name in arguments.only or NAMES:
        began = time.monotonic()
        for found in run(name, size=arguments.size):
            print(found.line(), flush=True)
            print(f"{found.words()} ({time.monotonic() - began:.0f} s)", file=sys.stderr)
            began = time.monotonic()


if __name__ == "__main__":
    main()
