"""A process that trains one row of one case each time it is asked, so that rows take turns and share no allocator.

    python -m benchmarks.worker ROW CASE DATA EPOCHS DEVICE

Each line on standard input asks for one repeat; each answer is a line of JSON: seconds, and peak memory in MiB.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import warnings
from pathlib import Path


def main() -> None:
    """Build the row once, then repeat it as often as asked."""
    row, case, data, epochs, device = sys.argv[1:6]
    warnings.filterwarnings("ignore")
    answers = os.fdopen(os.dup(1), "w")  # what training prints must not come between
    os.dup2(2, 1)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)

    import torch

    from benchmarks.cases import CASES
    from benchmarks.rows import ROWS
    from cnnbench.utils.memory import keep_freed_memory

    torch.manual_seed(0)
    if row == "floor-tuned":
        keep_freed_memory()
    train = ROWS[row](CASES[device][case], Path(data), torch.device(device))
    for _ in sys.stdin:
        seconds = train(int(epochs))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if device.startswith("cuda"):
            peak = torch.cuda.max_memory_allocated() / 2**20
        print(json.dumps({"seconds": seconds, "peak_mib": peak}), file=answers, flush=True)


if __name__ == "__main__":
    main()
