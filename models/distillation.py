"""The named loss terms of a batch: who is asked about which inputs, in as few passes as possible.

Legend: B batch, K classes.
"""

import torch
from torch import Tensor, nn

from teacherd.models.absent_classes import AbsentClasses
from teacherd.models.batches import Batch
from teacherd.models.losses import (
    DistillationConfig,
    dust_loss,
    fuse_labels,
    fused_loss,
    partly_new_split_loss,
    split_loss,
)
from teacherd.models.old_classes import OldClasses


def loss_terms(
    config: DistillationConfig,
    batch: Batch,
    *,
    student: nn.Module,
    teacher: nn.Module,
    answers_BK: Tensor | None,
    sigma: float | None,
    generator: torch.Generator,
    old: OldClasses | None = None,
    group_generator: torch.Generator | None = None,
    absent: AbsentClasses | None = None,
    absent_generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Return `total`, the loss to descend (method.md 2.3 and 5), and the terms it is made of.

    All are means over the batch's share; dust is drawn for the whole batch, so that it does not
    depend on how the batch is shared out.

    Inputs and dusted inputs go through the student as one batch: its BatchNorm, where statistics
    are not frozen, must see both together (measured in method.md 2.4). The teacher is asked about
    nothing that no term needs and nothing that is known.

    Args:
        config: Which terms there are.
        batch: Normalised inputs and labels.
        student: Gets gradients.
        teacher: In eval mode, gets none.
        answers_BK: The teacher's logits for the share's inputs without dust, where they are known.
        sigma: Standard deviation of the dust; needed where the dust is noise.
        generator: Draws the dust of the whole batch, in the order of its places.
        old: The classes to keep, where they came in several increments or others come now.
        group_generator: On the CPU; draws their groups, where those are drawn.
        absent: Old classes that are learned again without instances.
        absent_generator: On the CPU; draws what stands for these.
    """
    share = batch.share
    inputs, labels_B = share.of(batch.inputs), share.of(batch.labels)
    num_instances = len(labels_B)
    if config.has_dust:
        dusted = _dusted(config, batch.inputs, sigma, generator)
        inputs = torch.cat([inputs, share.of(dusted)])
    is_asked = asks_teacher(config, old)
    must_ask = is_asked and answers_BK is None
    asked = inputs if must_ask else inputs[num_instances:]
    if absent is None:
        student_logits = student(inputs).float()
    else:
        student_logits, embedding = absent.read(student, inputs)
        student_logits = student_logits.float()
    with torch.no_grad():
        teacher_logits = teacher(asked).float() if len(asked) else student_logits[:0]
    if must_ask:
        answers_BK = teacher_logits[:num_instances]
    clean_BK = student_logits[:num_instances]
    learned = (clean_BK, answers_BK if is_asked else None, labels_B)
    if absent is not None:
        assert absent_generator is not None, "what stands for absent classes is drawn"
        imagined = absent.imagine(embedding[:num_instances], batch, absent_generator)
        learned = _with_imagined(*learned, absent=absent, imagined=imagined)
    fused = _label_loss(config, *learned, old)
    terms, weight = {"total": fused, "fused": fused}, 1.0 if old is None else old.weight
    if old is not None and old.num_new:
        dense = torch.zeros_like(fused)
        if is_asked and answers_BK is not None:
            kept_B = old.divergence(clean_BK, answers_BK, group_generator)
            dense = (kept_B * (labels_B >= old.num_old)).mean()
        terms["dense"] = dense
        terms["total"] = terms["total"] + weight * config.temperature**2 * dense
    if config.has_dust:
        asked_BK, told_BK = student_logits[num_instances:], teacher_logits[-num_instances:]
        if old is None:
            dust = dust_loss(asked_BK, told_BK, temperature=config.temperature)
        else:
            dust = old.divergence(asked_BK, told_BK, group_generator).mean()
        terms["dust"] = dust
        terms["total"] = terms["total"] + weight * config.dust_factor * dust
    return terms


def asks_teacher(config: DistillationConfig, old: OldClasses | None = None) -> bool:
    """Say whether a term needs the teacher's answers to inputs without dust."""
    keeps_old = old is not None and old.num_new > 0 and old.weight > 0
    return config.asks_teacher_for_labels or keeps_old


def term_names(config: DistillationConfig, old: OldClasses | None = None) -> tuple[str, ...]:
    """Return the names of the terms, in their order."""
    dense = ("dense",) if old is not None and old.num_new else ()
    return ("total", "fused", *dense, *(("dust",) if config.has_dust else ()))


def _with_imagined(
    student_BK: Tensor,
    answers_BK: Tensor | None,
    labels_B: Tensor,
    *,
    absent: AbsentClasses,
    imagined: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return logits, answers and labels with those of imagined embeddings behind them."""
    imagined_ME, labels_M = imagined
    said_MK, told_MK = absent.ask(imagined_ME)
    answers = None if answers_BK is None else torch.cat([answers_BK, told_MK])
    return torch.cat([student_BK, said_MK]), answers, torch.cat([labels_B, labels_M])


def _label_loss(
    config: DistillationConfig,
    student_BK: Tensor,
    answers_BK: Tensor | None,
    labels_B: Tensor,
    old: OldClasses | None,
) -> Tensor:
    """Return what label and teacher say about inputs without dust (method.md 2.2 and 5)."""
    share, temperature = config.label_share, config.temperature
    if old is not None and old.num_new:
        student_BK = old.asked(student_BK, labels_B)
    if answers_BK is None or not config.asks_teacher_for_labels:
        return fused_loss(student_BK, labels_B, temperature=config.label_temperature)
    if config.form == "split":
        has_new = old is not None and old.num_new > 0
        loss = partly_new_split_loss if has_new else split_loss
        return loss(student_BK, answers_BK, labels_B, label_share=share, temperature=temperature)
    targets_BK = fuse_labels(
        answers_BK,
        labels_B,
        label_share=share,
        temperature=temperature,
        num_new=0 if old is None else old.num_new,
    )
    return fused_loss(student_BK, targets_BK, temperature=temperature)


def _dusted(
    config: DistillationConfig, inputs: Tensor, sigma: float | None, generator: torch.Generator
) -> Tensor:
    """Return a dusted copy of each input (method.md 2.3)."""
    if config.dust == "mixed":
        return _mixed(inputs, generator)
    if sigma is None:
        raise ValueError("sigma: None: dust needs its standard deviation; calibrate it first")
    noisy = torch.empty_like(inputs).normal_(0, sigma, generator=generator).add_(inputs)
    if config.dust == "noise":
        return noisy
    num_mixed = len(inputs) // 2
    return torch.cat([_mixed(inputs, generator)[:num_mixed], noisy[num_mixed:]])


def _mixed(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Blend each input with another of the batch, as mixup does, by a share from U[0, 1) (ours).

    Between two instances of different classes lies a boundary of the teacher, so that such inputs
    meet it more often than noise does.
    """
    num_instances, device = len(inputs), inputs.device
    partners_B = torch.randperm(num_instances, generator=generator, device=device)
    shares_B = torch.rand(num_instances, generator=generator, device=device)
    shares = shares_B.view(-1, *[1] * (inputs.ndim - 1))
    return torch.lerp(inputs, inputs[partners_B], shares)
