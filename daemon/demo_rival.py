"""Plain fine-tuning on the demo's stream: what the daemon has to beat."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from teacherd.daemon.demo_stream import NUM_TASKS, DemoStream
from teacherd.models.artifact import load_artifact
from teacherd.models.backbone import BackboneConfig
from teacherd.models.evaluation import evaluate
from teacherd.models.learner import Learner
from teacherd.models.learner_config import LearnerConfig
from teacherd.models.preprocessing import Preprocessing
from teacherd.models.task import Task

_CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """How a network did over the stream: accuracy, 0 to 1, by evaluation set."""

    base: Mapping[str, float]
    """Before the first task."""
    after_tasks: Sequence[Mapping[str, float]]
    """After each task."""


def fine_tune_beside(
    stream: DemoStream, *, base: Path, seed: int, on_task: Callable[[int], None]
) -> Course:
    """Fine-tune the base model on the stream's tasks, one after the other.

    Args:
        stream: Cut into the tasks that the daemon cuts by count.
        base: Folder of the base model that the daemon starts from.
        seed: Of the daemon's lineage: both learn from the same batches.
        on_task: Told how many tasks are done.
    """
    loaded = load_artifact(base)
    return learn_stream(
        stream,
        network=loaded.network,
        preprocessing=loaded.manifest.preprocessing,
        architecture=loaded.manifest.architecture,
        config=plain_fine_tuning(LearnerConfig()),
        seed=seed,
        on_task=on_task,
    )


def plain_fine_tuning(config: LearnerConfig) -> LearnerConfig:
    """Return the same optimizer, epochs and batches without any of the method: labels alone.

    BatchNorm statistics stay as frozen as the method has them, which spares fine-tuning much
    forgetting too: what is compared is the method, not that.
    """
    return replace(
        config,
        distillation=replace(config.distillation, label_share=1.0, dust_weight=0.0),
        consolidation=replace(config.consolidation, kind="none"),
        new_classes=replace(config.new_classes, weight=0.0, labels="all"),
    )


def learn_stream(
    stream: DemoStream,
    *,
    network: nn.Module,
    preprocessing: Preprocessing,
    architecture: BackboneConfig | None = None,
    config: LearnerConfig,
    seed: int,
    on_task: Callable[[int], None],
) -> Course:
    """Learn the stream task by task, as the daemon does, and measure the teacher after each."""
    learner = Learner(
        config,
        teacher=network,
        preprocessing=preprocessing,
        sigma=None,
        device=_CPU,
        architecture=architecture,
    )
    schedule = config.schedule(seed)
    known = len(stream.base_classes)
    base = _accuracies(stream, learner.teacher, preprocessing, known)
    after_tasks = []
    for number in range(1, NUM_TASKS + 1):
        places = slice((number - 1) * stream.task_instances, number * stream.task_instances)
        labels = stream.stream.labels[places]
        # Whatever is new is learned with the first task that has it.
        num_new = max(int(labels.max()) + 1 - known, 0)
        task = Task(
            number=number,
            inputs=stream.stream.inputs[places],
            labels=labels,
            num_new_classes=num_new,
        )
        learner.learn(task, schedule)
        learner.accept()
        known += num_new
        after_tasks.append(_accuracies(stream, learner.teacher, preprocessing, known))
        on_task(number)
    return Course(base=base, after_tasks=after_tasks)


def _accuracies(
    stream: DemoStream, network: nn.Module, preprocessing: Preprocessing, num_known: int
) -> dict[str, float]:
    """Measure on each set; classes that are not known yet are got wrong."""
    return {
        name: evaluate(
            network,
            each.inputs,
            each.labels,
            preprocessing=preprocessing,
            device=_CPU,
            num_new_classes=len(each.classes) - num_known,
        ).accuracy
        for name, each in {"base": stream.base, **stream.held_out}.items()
    }
