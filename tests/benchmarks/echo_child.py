"""A child of `run_child`: says something first, then answers with its task."""

import json
import sys

task = json.load(sys.stdin)
if task["fail"]:
    sys.exit("the last line says why")
sys.stdout.write("loading\n" + json.dumps(task) + "\n")
