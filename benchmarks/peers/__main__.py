"""A whole process that trains once, as ``benchmarks/processes.py`` starts it: reads the images, builds, compiles, trains.

python -m benchmarks.peers ROW CASE DATA EPOCHS OPTIMIZER SCHEDULER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.cases import CASES
from benchmarks.peers import build

row, case, data, epochs, optimizer, scheduler = sys.argv[1:]
print(json.dumps(build(row, CASES["cpu"][case], Path(data), optimizer, scheduler)(int(epochs))._asdict()))
