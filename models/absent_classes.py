"""Old classes that a task has no instance of, learned again by their mean embeddings.

method.md, section 5 (ours). The idea, to put the instances of new classes where those of an old one
were, is of FeTrIL: Petit et al., arXiv 2211.13131. It holds while embeddings stay what they are, so
that such a task trains the last layer only.

Legend: B batch, E embedding, K classes, M imagined embeddings.
"""

import torch
from torch import Tensor, nn

from teacherd.models.batches import Batch, Batches
from teacherd.models.class_means import HeadInput, head_with_means, means_of
from teacherd.models.mean_taking import MeanTaking

_MOST_PER_INSTANCE = 16


class AbsentClasses:
    """What stands for instances of them: those of the task, moved from mean to mean.

    Args:
        student: The layer that is trained.
        teacher: The same layer of the teacher before the task.
        means_KE: Mean embedding of each class, new ones included.
        classes: Those that are absent and have a mean, in their order.
        num_present: Classes that there are instances of.
        is_rectified: Whether no embedding is ever negative.
    """

    def __init__(
        self,
        *,
        student: nn.Linear,
        teacher: nn.Linear,
        means_KE: Tensor,
        classes: tuple[int, ...],
        num_present: int,
        is_rectified: bool,
    ) -> None:
        self.classes = frozenset(classes)
        """Those that are learned again."""
        self.head = student
        """All that is trained."""
        self._teacher = teacher
        self._means_KE = means_KE
        self._ordered = torch.tensor(classes)
        self._per_instance = min(_MOST_PER_INSTANCE, max(1, round(len(classes) / num_present)))
        self._is_rectified = is_rectified
        self._reader = HeadInput(student)

    def read(self, network: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the student's logits for inputs, and their embeddings."""
        return self._reader.logits(network, inputs)

    def imagine(
        self, embedding_BE: Tensor, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return embeddings of absent classes [M, E] and their classes [M].

        Each instance gives a few: its own, less its class's mean, plus that of a class by chance.

        Args:
            embedding_BE: Of the instances of the batch's share.
            batch: Classes are drawn for the whole of it, however it is shared out.
            generator: On the CPU.
        """
        drawn = torch.randint(
            len(self._ordered), (len(batch.labels), self._per_instance), generator=generator
        )
        labels_BM = self._ordered[batch.share.of(drawn)].to(embedding_BE.device)
        residual_BE = embedding_BE.detach().float() - self._means_KE[batch.share.of(batch.labels)]
        imagined = self._means_KE[labels_BM] + residual_BE.unsqueeze(1)
        if self._is_rectified:
            imagined = imagined.clamp(min=0)
        return imagined.flatten(0, 1), labels_BM.flatten()

    def ask(self, imagined_ME: Tensor) -> tuple[Tensor, Tensor]:
        """Return what student and teacher say about imagined embeddings, in logits."""
        with torch.no_grad():
            told: Tensor = self._teacher(imagined_ME)
        said: Tensor = self.head(imagined_ME)
        return said.float(), told.float()


def find_absent(
    teacher: nn.Module, student: nn.Module, batches: Batches, *, num_old: int, taking: MeanTaking
) -> AbsentClasses | None:
    """Return the old classes that can be learned again in a task with new ones, None for none.

    Args:
        teacher: Of the old classes.
        student: Grown from it, as it begins.
        batches: Of the task.
        num_old: Classes of the teacher.
        taking: Embeds the task's instances.
    """
    teaching, learning = head_with_means(teacher), head_with_means(student)
    if teaching is None or learning is None:
        return None
    counts_K = means_of(teaching)[1].tolist()
    classes = [each for each in range(num_old) if counts_K[each] and each not in batches.classes]
    if not classes:
        return None
    sums_KE, present_K = taking.sums(student, learning, batches, batches.num_places)
    present_K1 = present_K.unsqueeze(1)
    found_KE = sums_KE / present_K1.clamp(min=1)
    means_KE = torch.where(present_K1 > 0, found_KE, means_of(learning)[0])
    return AbsentClasses(
        student=learning,
        teacher=teaching,
        means_KE=means_KE,
        classes=tuple(classes),
        num_present=len(batches.classes),
        is_rectified=bool((means_KE >= 0).all()),
    )
