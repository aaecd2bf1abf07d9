"""What do dense groups cost? All losses at once, beside a loop over the groups, with gradients.

A batch of 128 over 100 classes that came in 20 increments of 5: 210 groups.

    loop_ratio               seconds of the loop / seconds of ours
    full_seconds             of ours, all groups
    random_seconds           of one group by chance
"""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from report import Report, alternate, parse_arguments
from torch import Tensor

from teacherd.models.dense_groups import TEMPERATURE, DenseGroups
from teacherd.models.task_pool import TaskPool

BATCH, INCREMENTS = 128, (5,) * 20


def main() -> None:
    """Measure and report."""
    arguments = parse_arguments(__doc__)
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    pool = TaskPool(INCREMENTS)
    groups = DenseGroups(pool, device=device)
    generator = torch.Generator().manual_seed(0)
    shape = (BATCH, pool.num_classes)
    student, old = (torch.randn(shape, generator=generator).to(device) for _ in range(2))
    student.requires_grad_()
    classes = [list(pool.classes(group)) for group in range(len(pool))]
    repetitions = 3 if arguments.quick else 20
    full, loop = alternate(
        lambda: timed(lambda: groups.full(student, old).mean(), student),
        lambda: timed(lambda: looped(classes, student, old), student),
        repetitions=repetitions,
    )
    one, _ = alternate(
        lambda: timed(lambda: groups.random(student, old, generator).mean(), student),
        lambda: 0.0,
        repetitions=repetitions,
    )
    report = Report("dense_groups", arguments)
    report.add_ratio("loop_ratio", loop, full)
    report.add("full_seconds", full)
    report.add("random_seconds", one)
    report.close()


def timed(loss: Callable[[], Tensor], student: Tensor) -> float:
    """Return the seconds of a loss with its gradient."""
    started = time.perf_counter()
    torch.autograd.grad(loss(), student)[0].sum().item()  # waits for the device
    return time.perf_counter() - started


def looped(classes: list[list[int]], student: Tensor, old: Tensor) -> Tensor:
    """Return the mean over all groups, one after the other."""
    losses = [
        F.kl_div(
            F.log_softmax(student[:, each] / TEMPERATURE, dim=1),
            F.log_softmax(old[:, each] / TEMPERATURE, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        for each in classes
    ]
    return TEMPERATURE**2 * torch.stack(losses).mean()


if __name__ == "__main__":
    main()
