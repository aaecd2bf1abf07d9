"""How an order of benchmarks/iil.py deals a data set out (method.md, 1)."""

import numpy as np
from course_data import Corpus, Course, Split

from teacherd.daemon.demo_stream import stratified_order


def deal(
    corpus: Corpus,
    *,
    order: int,
    split: Split,
    num_base: int,
    num_tasks: int,
    task_instances: int,
) -> Course:
    """Deal a data set out for one order: what is base and what comes when is drawn anew.

    The base has the classes in their shares (O); within the stream the order is random, so that
    tasks vary as those of a stream do.

    Args:
        corpus: What is dealt out.
        order: Seed of the order.
        split: What the course is measured with. `validation` takes a sixth of the training set out
            first, for choosing settings, and leaves the test set alone; base and tasks shrink in
            proportion where that leaves too little.
        num_base: Instances of the base.
        num_tasks: Number of tasks.
        task_instances: Instances of each.

    Raises:
        ValueError: There is too little.
    """
    taken = corpus.take(split)
    train = taken.train
    if split == "validation":
        share = min(1.0, len(train) / (num_base + num_tasks * task_instances))
        num_base, task_instances = int(num_base * share), int(task_instances * share)
    num_wanted = num_base + num_tasks * task_instances
    if num_wanted > len(train):
        raise ValueError(
            f"--num-tasks, --task-instances: {num_tasks} x {task_instances} and a base of "
            f"{num_base} are more than the {len(train)} instances there are; take fewer"
        )
    rng = np.random.default_rng(order)
    places = stratified_order(train.labels, rng)[:num_wanted]
    stream = rng.permutation(places[num_base:]).reshape(num_tasks, task_instances)
    return Course(
        parts=(train.take(places[:num_base]), *(train.take(each) for each in stream)),
        test=taken.test,
    )
