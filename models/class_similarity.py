"""How alike new classes are to old ones, in the eyes of the model that knows only the old.

Legend: N instances, E embedding, K old classes.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from teacherd.models.embedding import Embedder
from teacherd.models.preprocessing import Preprocessing
from teacherd.models.task import Task


def class_similarity(
    network: nn.Module,
    task: Task,
    *,
    num_old: int,
    preprocessing: Preprocessing,
    device: torch.device,
    on_batch: Callable[[], None] = lambda: None,
) -> float:
    """Return s of method.md, section 5: from 0, nothing alike, to 1.

    The mean over new classes of the largest cosine between the class's prototype and an old class's
    row of the classifier, clipped to [0, 1] (O). The prototype is the mean embedding of the task's
    instances of the class. 0 for a network whose logits no linear layer makes: it has no such rows.

    Args:
        network: The old model, of `num_old` classes.
        task: Has instances of each new class.
        num_old: Classes that the network knows.
        preprocessing: As the network was trained with.
        device: Where the network lies.
        on_batch: Called after each forward pass.
    """
    is_new_N = task.labels >= num_old
    embedder = Embedder(network, preprocessing=preprocessing, device=device, batch_size=256)
    embedding_NE = embedder.embed(task.inputs[is_new_N], on_batch=on_batch)
    if embedder.head is None:
        return 0.0
    prototypes = _means(embedding_NE, torch.from_numpy(task.labels[is_new_N]))
    rows_KE = embedder.head.weight.detach().float().cpu()
    cosines = F.cosine_similarity(prototypes[:, None], rows_KE[None], dim=2)
    return float(cosines.amax(dim=1).mean().clamp(0, 1))


def _means(embedding_NE: Tensor, labels_N: Tensor) -> Tensor:
    """Return the mean embedding of each class that occurs, classes in their order."""
    return torch.stack([embedding_NE[labels_N == each].mean(0) for each in torch.unique(labels_N)])
