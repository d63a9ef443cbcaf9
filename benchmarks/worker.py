"""A process that trains one row of one case each time it is asked, so that rows take turns and share no allocator.

    python -m benchmarks.worker ROW CASE DATA EPOCHS DEVICE

Each line on standard input asks for one repeat; each answer is a line of JSON: seconds on the clock and of the processor,
the training loss, and peak memory in MiB.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import peers
from benchmarks.cases import CASES

if TYPE_CHECKING:
    from benchmarks.plain import Train


def main() -> None:
    """Build the row once, then repeat it as often as asked."""
    row, case, data, epochs, device = sys.argv[1:6]
    warnings.filterwarnings("ignore")
    answers = os.fdopen(os.dup(1), "w")  # what training prints must not come between
    os.dup2(2, 1)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)

    train = peers.build(row, CASES[device][case], Path(data)) if row in peers.PEERS else build(row, case, data, device)
    for _ in sys.stdin:
        result = train(int(epochs))
        peak = peak_mib()
        if device.startswith("cuda"):
            import torch

            peak = torch.cuda.max_memory_allocated() / 2**20
        print(json.dumps({**result._asdict(), "peak_mib": peak}), file=answers, flush=True)


def peak_mib() -> float:
    """The most memory that this process had at a time; ``ru_maxrss`` alone would begin with that of its parent."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    peak = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    return (peak or [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss])[0] / 1024


def build(row: str, case: str, data: str, device: str) -> Train:
    """The training of a row that is torch's."""
    import torch

    from benchmarks.rows import ROWS
    from cnnbench.utils.memory import keep_freed_memory

    torch.manual_seed(0)
    if row == "floor-tuned":
        keep_freed_memory()
    return ROWS[row](CASES[device][case], Path(data), torch.device(device))


if __name__ == "__main__":
    main()
