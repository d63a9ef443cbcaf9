"""Learning-rate schedules that torch does not have in the form needed; all others are named in their YAML."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR


def one_cycle(optimizer: Optimizer, total_steps: int, **options: Any) -> OneCycleLR:
    """torch's OneCycleLR with the optimizer's own learning rates, group by group, as the peaks.

    Args:
        optimizer: its momentum (or first beta) is cycled too where it has one.
        total_steps: optimizer steps of the whole run.
        options: of OneCycleLR (pct_start, div_factor, final_div_factor, anneal_strategy ...).

    Source: Smith & Topin 2017, "Super-convergence", section 3.
    """
    momentum = any("betas" in group or group.get("momentum", 0) for group in optimizer.param_groups)
    peaks = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, max_lr=peaks, total_steps=total_steps, **{"cycle_momentum": momentum, **options})
