"""The named loss terms of a batch: who is asked about which inputs, in as few passes as possible.

Legend: B batch, K classes.
"""

import torch
from torch import Tensor, nn

from teacherd.models.batches import Batch
from teacherd.models.losses import DistillationConfig, dust_loss, fuse_labels, fused_loss


def loss_terms(
    config: DistillationConfig,
    batch: Batch,
    *,
    student: nn.Module,
    teacher: nn.Module,
    sigma: float | None,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Return `total`, the loss to descend (method.md 2.3), and the terms it is made of.

    Inputs and dusted inputs go through a network as one batch: the student's BatchNorm, where its
    statistics are not frozen, must see both together (measured in method.md 2.4). The teacher is
    asked about nothing that no term needs.

    Args:
        config: Which terms there are.
        batch: Normalised inputs and labels.
        student: Gets gradients.
        teacher: In eval mode, gets none.
        sigma: Standard deviation of the dust; needed where there is dust.
        generator: Draws the dust of the whole batch, in the order of its places.
    """
    inputs, num_instances = batch.inputs, len(batch.labels)
    if config.has_dust:
        if sigma is None:
            raise ValueError("sigma: None: dust needs its standard deviation; calibrate it first")
        inputs = _add_dusted(inputs, sigma, generator)
    student_logits = student(inputs).float()
    targets = batch.labels
    teacher_logits: Tensor | None = None
    if config.has_dust or config.asks_teacher_for_labels:
        asked = inputs if config.asks_teacher_for_labels else inputs[num_instances:]
        with torch.no_grad():
            teacher_logits = teacher(asked).float()
    if teacher_logits is not None and config.asks_teacher_for_labels:
        targets = fuse_labels(
            teacher_logits[:num_instances],
            batch.labels,
            label_share=config.label_share,
            temperature=config.temperature,
        )
    fused = fused_loss(student_logits[:num_instances], targets, temperature=config.temperature)
    if teacher_logits is None or not config.has_dust:
        return {"total": fused, "fused": fused}
    dust = dust_loss(
        student_logits[num_instances:],
        teacher_logits[-num_instances:],
        temperature=config.temperature,
    )
    return {"total": fused + config.dust_weight * dust, "fused": fused, "dust": dust}


def term_names(config: DistillationConfig) -> tuple[str, ...]:
    """Return the names of the terms, in their order."""
    return ("total", "fused", "dust") if config.has_dust else ("total", "fused")


def _add_dusted(inputs: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Return inputs and a dusted copy of each, as one batch twice as large (method.md 2.3)."""
    dusted = torch.empty_like(inputs).normal_(0, sigma, generator=generator).add_(inputs)
    return torch.cat([inputs, dusted])
