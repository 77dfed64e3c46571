"""What a phase does to a network: which parameters move, by which optimiser, and in which modes layers run."""

from __future__ import annotations

import difflib
from typing import Any

import torch
from torch import nn

from ..errors import TrainingError
from .recipe import Phase


def check_rates(network: nn.Module, phase: Phase) -> None:
    """Raise TrainingError for a rate that no parameter takes, since a wrong name would leave a part frozen unseen, and
    for several rates of L-BFGS, which takes one."""
    if phase.optimiser == "lbfgs" and len(set(phase.rates.values())) > 1:
        raise TrainingError(f"phase '{phase.name}': L-BFGS takes one rate; found {phase.rates}")
    names = [name for name, _ in network.named_parameters()]
    for prefix in phase.rates:
        if not any(_fits(name, prefix) for name in names):
            there = dict.fromkeys(part for name in names for part in (name.partition(".")[0], name.rpartition(".")[0]))
            near = difflib.get_close_matches(prefix, there, 1)
            parts = ", ".join(name for name, _ in network.named_children())
            hint = f"did you mean '{near[0]}'?" if near else f"there are {parts}"
            raise TrainingError(f"phase '{phase.name}': no parameter is named like '{prefix}'; {hint}")


def _fits(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def prepare(network: nn.Module, phase: Phase) -> torch.optim.Optimizer:
    """Freeze what the phase does not train and make its optimiser. Raises TrainingError when nothing is left."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        fitting = [prefix for prefix in phase.rates if _fits(name, prefix)]
        parameter.requires_grad_(bool(fitting))
        parameter.grad = None
        if fitting:
            groups.setdefault(phase.rates[max(fitting, key=len)], []).append(parameter)
    if not groups:
        raise TrainingError(f"phase '{phase.name}' trains nothing: no parameter is named like {', '.join(phase.rates)}")
    listed: list[dict[str, Any]] = [{"params": found, "lr": rate, "peak": rate} for rate, found in groups.items()]
    if phase.optimiser == "sgd":
        return torch.optim.SGD(listed, momentum=phase.momentum, weight_decay=phase.weight_decay)
    if phase.optimiser == "lbfgs":
        rate, parameters = max(groups), [parameter for group in groups.values() for parameter in group]
        # One iteration allows one evaluation by default, which leaves the line search none. And a head that starts flat
        # at the mean score has small gradients, below torch's tolerance.
        return torch.optim.LBFGS(
            parameters, lr=rate, max_iter=1, max_eval=26, line_search_fn="strong_wolfe", tolerance_change=1e-16
        )
    made = torch.optim.Adam if phase.optimiser == "adam" else torch.optim.AdamW
    return made(listed, weight_decay=phase.weight_decay)


def set_rates(optimiser: torch.optim.Optimizer, phase: Phase, epoch: float) -> None:
    """Rates of all groups when ``epoch`` epochs of the phase are done; L-BFGS searches its own."""
    factor = phase.schedule.at(epoch, phase.epochs)
    for group in optimiser.param_groups:
        if "peak" in group:
            group["lr"] = group["peak"] * factor


def set_modes(network: nn.Module, phase: Phase) -> None:
    """Training mode; evaluation mode for parts none of whose parameters is trained (their dropout), and for batch-norms
    that the phase wants in it."""
    network.train()
    for module in network.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            trained = module.weight is not None and module.weight.requires_grad
            mode = phase.batch_norm if trained else phase.frozen_batch_norm
            module.train(mode == "train")


@torch.no_grad()
def blend(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move ``average`` towards ``network``: what is not floating point is copied."""
    for kept, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)
