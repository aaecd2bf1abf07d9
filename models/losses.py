"""Losses of decision-boundary-aware distillation (DBD): method.md, section 2; source [IIL].

[IIL] Nie et al., "Decision Boundary-aware Knowledge Consolidation Generates Better
Instance-Incremental Learner", arXiv 2406.03065. (S) is stated there; (O) is our reading of what it
leaves open, and a setting.

Legend: B batch, K classes. All terms are means over the instances of the batch.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

DustKind = Literal["noise", "mixed", "both"]
Form = Literal["fused", "split"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillationConfig:
    """How much the student listens to the labels, to the teacher, and to it near its boundary.

    `label_share: 1` and `dust_weight: 0` together are plain training on the labels: then the
    teacher is not even asked.
    """

    label_share: float = 0.5
    """Share of the one-hot label in the fused label (lambda); from 0.5 on the label stays the arg
    max whatever the teacher says. 1 is plain labels. (O)"""
    form: Form = "split"
    """How label and teacher are weighed: fused asks the student for a mixture of both (S), split
    for each on its own, with softened answers of the teacher (ours). At temperature 1 both have the
    same gradient."""
    temperature: float = 2.0
    """Divides the logits of teacher and student alike (tau), in the split form not where the label
    is asked for; 1 changes nothing. (O)"""
    dust_weight: float = 1.0
    """Weight of the loss on dusted inputs (beta); 0 dusts nothing and saves half the work. (O)"""
    dust: DustKind = "both"
    """What dusted inputs are: noise adds Gaussian noise to each input (S); mixed blends each input
    with another of its batch, by a share drawn evenly from 0 to 1 (ours); both does either to half
    of a batch. On a stream without drift both keeps and gains more than one alone; a drift is
    followed faster with noise, and mixed alone forgot under one. (O)"""
    flip_share: float = 0.3
    """Share of instances whose class the teacher changes under dust, for which the strength of
    the dust is calibrated; 0.2 to 0.5 worked, 0.3 lies between. (O)"""
    sigma: float | None = None
    """Standard deviation of the dust in normalised input units; null calibrates it. (O)"""

    def __post_init__(self) -> None:
        if not 0 <= self.label_share <= 1:
            raise ValueError(f"label_share: {self.label_share}: must be from 0 to 1; take 0.5")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature: {self.temperature}: must be above 0 and finite; take 2")
        if not 0 <= self.dust_weight < math.inf:
            raise ValueError(
                f"dust_weight: {self.dust_weight}: must be at least 0 and finite; take 1"
            )
        if not 0 < self.flip_share < 1:
            raise ValueError(f"flip_share: {self.flip_share}: must be between 0 and 1; take 0.3")
        if self.sigma is not None and not 0 < self.sigma < math.inf:
            raise ValueError(
                f"sigma: {self.sigma}: must be above 0 and finite; take null to calibrate it, or "
                "dust_weight 0 for no dust"
            )

    @property
    def label_temperature(self) -> float:
        """Return what the student's logits are divided by where only the label is asked for."""
        return 1.0 if self.form == "split" else self.temperature

    @property
    def dust_factor(self) -> float:
        """Return what the KL divergence on dusted inputs is multiplied with in the total."""
        square = self.temperature**2 if self.form == "split" else 1.0
        return self.dust_weight * square

    @property
    def has_dust(self) -> bool:
        """Say whether inputs are dusted."""
        return self.dust_weight > 0

    @property
    def needs_sigma(self) -> bool:
        """Say whether the dust has a strength that is to be calibrated."""
        return self.has_dust and self.dust != "mixed"

    @property
    def asks_teacher_for_labels(self) -> bool:
        """Say whether fused labels hold anything of the teacher."""
        return self.label_share < 1


def fuse_labels(
    teacher_logits_BK: Tensor,
    labels_B: Tensor,
    *,
    label_share: float,
    temperature: float,
    num_new: int = 0,
) -> Tensor:
    """Return the fused labels [B, K]: probabilities that mix the label and the teacher's answer.

    method.md 2.2: label_share * onehot(y) + (1 - label_share) * softmax(z_T / temperature). That
    they are fused is (S), this mixture (O). With `num_new` classes behind the teacher's, there are
    as many more, and the label of an instance of those is all there is: one-hot.
    """
    fused_BK = F.softmax(teacher_logits_BK / temperature, dim=1).mul_(1 - label_share)
    shares_B1 = fused_BK.new_full((len(labels_B), 1), label_share)
    if num_new:
        is_new_B1 = (labels_B >= fused_BK.shape[1]).unsqueeze(1)
        fused_BK = F.pad(fused_BK.masked_fill_(is_new_B1, 0.0), (0, num_new))
        shares_B1.masked_fill_(is_new_B1, 1.0)
    return fused_BK.scatter_add_(1, labels_B.unsqueeze(1), shares_B1)


def fused_loss(student_logits_BK: Tensor, targets: Tensor, *, temperature: float) -> Tensor:
    """Return the cross-entropy of the student against fused labels (method.md 2.2).

    Args:
        student_logits_BK: The student's answers.
        targets: Fused labels [B, K], or class indices [B] where the label is all there is.
        temperature: As in the fused labels.
    """
    return F.cross_entropy(student_logits_BK / temperature, targets)


def split_loss(
    student_logits_BK: Tensor,
    teacher_logits_BK: Tensor,
    labels_B: Tensor,
    *,
    label_share: float,
    temperature: float,
) -> Tensor:
    """Return label and teacher each as a term of its own (method.md 2.2, ours).

    label_share * CE(y, z_S) + (1 - label_share) * temperature^2 * KL(teacher || student), the
    latter softened as by Hinton et al., arXiv 1503.02531; the square keeps the gradient's size.
    """
    labelled = F.cross_entropy(student_logits_BK, labels_B)
    listened = dust_loss(student_logits_BK, teacher_logits_BK, temperature=temperature)
    return label_share * labelled + (1 - label_share) * temperature**2 * listened


def partly_new_split_loss(
    student_logits_BK: Tensor,
    teacher_logits_BK: Tensor,
    labels_B: Tensor,
    *,
    label_share: float,
    temperature: float,
) -> Tensor:
    """Return the split loss where the student has classes behind the teacher's (method.md 5, ours).

    The teacher is listened to about instances of the classes that it knows; none of them is of a
    new class, so these get nothing of its answer's probability. Without that the student could tell
    new from old by half of a label alone, and took old ones for new (measured on clouds). Of the
    other instances the label is all there is.
    """
    num_new = student_logits_BK.shape[1] - teacher_logits_BK.shape[1]
    answers_BK = F.pad(F.softmax(teacher_logits_BK / temperature, dim=1), (0, num_new))
    labelled_B = F.cross_entropy(student_logits_BK, labels_B, reduction="none")
    listened_B = F.kl_div(
        F.log_softmax(student_logits_BK / temperature, dim=1), answers_BK, reduction="none"
    ).sum(1)
    fused_B = label_share * labelled_B + (1 - label_share) * temperature**2 * listened_B
    return torch.where(labels_B < teacher_logits_BK.shape[1], fused_B, labelled_B).mean()


def dust_loss(
    student_logits_BK: Tensor, teacher_logits_BK: Tensor, *, temperature: float
) -> Tensor:
    """Return KL(teacher || student) on dusted inputs, which no label knows about (method.md 2.3).

    The idea is (S), direction, temperature and weight are (O). There is no factor temperature
    squared here; the split form multiplies with it.
    """
    return F.kl_div(
        F.log_softmax(student_logits_BK / temperature, dim=1),
        F.log_softmax(teacher_logits_BK / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
