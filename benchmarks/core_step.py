"""Measures one step of a message in the core: the program for another build than that of the run.

The benchmarks start this file as a program with the name of the step.
"""

import json
import sys

from scenarios.core import measure_step

if __name__ == "__main__":
    print(json.dumps(measure_step(sys.argv[1])), flush=True)
