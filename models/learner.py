"""The learner: owns teacher and student, turns a task into a candidate teacher step by step.

Losses, draws, consolidation and data are their own modules'; whether a candidate becomes the
teacher is its caller's decision. Method: method.md, sections 2 to 6.
"""

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from teacherd.models.backbone import BackboneConfig, NetworkFactory
from teacherd.models.batches import Batch
from teacherd.models.consolidation import (
    point_between,
)
from teacherd.models.distillation import asks_teacher, loss_terms, term_names
from teacherd.models.evaluation import Evaluation
from teacherd.models.head_growth import widened
from teacherd.models.learner_config import LearnerConfig
from teacherd.models.mean_taking import MeanTaking
from teacherd.models.memory import Memory
from teacherd.models.module_tensors import (
    largest_magnitude,
)
from teacherd.models.non_finite import NonFiniteError
from teacherd.models.placement import Placement
from teacherd.models.preprocessing import Preprocessing
from teacherd.models.ranks import ALONE, DRAWS, TRAINS_STATISTICS, Ranks, RanksRefusedError
from teacherd.models.task import Schedule, Task
from teacherd.models.task_in_progress import TaskInProgress
from teacherd.models.task_opening import TaskOpening
from teacherd.models.task_report import TaskReport


class Learner:
    """Learns one task after another; between two tasks there is only the teacher.

    A task goes `begin`, `step` until it returns False, `finish`, then `accept` or `discard`. All
    draws are functions of the schedule's seed, the task's number and a place, so that the outcome
    is one of teacher, task, schedule and configuration alone.

    The labels are fused with the answers of the candidate as consolidated so far, which is the
    current teacher of method.md 2.1: until the freezing period ends that is the old one (ours). In
    a task with new classes they are fused with those of the old teacher all the time.

    A task with new classes grows the student at its beginning and the candidate at the first
    consolidation (method.md, 5).

    Args:
        config: How to learn; its epochs and learning rate are what plans are made with.
        teacher: The head; a copy is kept, the caller's stays as it is.
        preprocessing: Of raw inputs, as the teacher was trained with.
        sigma: Standard deviation of the dust, as calibrated for the base model; None calibrates it
            on the first task. The configuration's, where set, wins.
        device: Where to compute.
        ranks: Those that learn together; all of them must make the same calls with the same tasks.
            Each computes its share of every batch, and all come to the same weights.
        architecture: What the teacher is built from; without it no new classes can be learned.
        factory: Called in place of what the architecture's name says.
        increments: Classes of each increment that the teacher has learned so far, in their order;
            none: all at once.
        memory: What was kept of the tasks before; None for nothing. It is filled by `accept`.
        on_batch: Called after each forward pass that is not part of a step: whoever must show that
            it is alive cannot wait for those over a whole task.

    Raises:
        RanksRefusedError: Several ranks would learn something else than one.
    """

    def __init__(
        self,
        config: LearnerConfig,
        *,
        teacher: nn.Module,
        preprocessing: Preprocessing,
        sigma: float | None,
        device: torch.device,
        ranks: Ranks = ALONE,
        architecture: BackboneConfig | None = None,
        factory: NetworkFactory | None = None,
        increments: Sequence[int] = (),
        memory: Memory | None = None,
        on_batch: Callable[[], None] = lambda: None,
    ) -> None:
        if config.batch_norm == "train" and not ranks.is_alone:
            raise RanksRefusedError("learning.batch_norm", TRAINS_STATISTICS)
        self._config = config
        self._ranks = ranks
        self._preprocessing = preprocessing
        self._placement = Placement(device=device, precision=config.precision)
        self.teacher = self._placement.place(copy.deepcopy(teacher)).eval()
        """What the next task starts from; in eval mode, and untouched while a task runs."""
        self.teacher.requires_grad_(requires_grad=False)
        self.sigma = sigma if config.distillation.sigma is None else config.distillation.sigma
        """Standard deviation of the dust, in normalised units; None until it is needed."""
        self._taking = MeanTaking(placement=self._placement, ranks=ranks, on_batch=on_batch)
        self._opening = TaskOpening(
            config,
            preprocessing=preprocessing,
            placement=self._placement,
            ranks=ranks,
            taking=self._taking,
            architecture=architecture,
            factory=factory,
            on_batch=on_batch,
        )
        self.increments = tuple(increments)
        """Classes of each increment, those of the task in progress included; empty before the first
        task of a learner that was told none."""
        self.memory = Memory() if memory is None else memory
        """What is learned again with each task."""
        self._run: TaskInProgress | None = None

    @property
    def num_steps_done(self) -> int:
        """Optimizer steps made in the task in progress."""
        return 0 if self._run is None else self._run.step

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the task in progress, when it is finished."""
        return 0 if self._run is None else self._run.num_steps

    @property
    def before(self) -> Evaluation:
        """The teacher on the task in progress, before the first step."""
        return self._current.before

    @property
    def candidate(self) -> nn.Module:
        """The teacher as consolidated so far; complete after the last step.

        It knows no new class before the first consolidation.
        """
        return self._current.candidate

    @property
    def student(self) -> nn.Module:
        """The network that is trained."""
        return self._current.student.network

    def begin(self, task: Task, schedule: Schedule) -> None:
        """Start a task: student and candidate are copies of the teacher, the optimizer is fresh.

        Measures the outer share and, where the dust has no strength yet, calibrates it.

        Raises:
            ValueError: A label is none of the teacher's classes nor of the new ones, a new class
                has no instance, the network cannot grow, or the inputs are of another form than
                the teacher takes.
        """
        if self._run is not None:
            raise RuntimeError(f"task {self._run.task.number} is in progress; close it first")
        run = self._run = self._opening.open(
            self.teacher,
            task,
            schedule,
            sigma=self.sigma,
            increments=self.increments,
            memory=self.memory,
        )
        self.sigma, self.increments = run.sigma, run.increments

    def step(self) -> bool:
        """Make one optimizer step, and a consolidation when due; return whether there are more.

        Raises:
            NonFiniteError: Before the optimizer step: student and candidate are as they were.
        """
        run = self._current
        if run.step == run.num_steps:
            return False
        batch = run.batches.batch(run.step)
        run.advance(self._update_student(run, batch))
        if run.step < run.num_steps:
            return True
        # Not in `finish`: who takes a decision from elsewhere goes on from the state of this step.
        self._taking.add(run.candidate, run.batches)
        return False

    def finish(self) -> TaskReport:
        """Return what the task came to, after its last step.

        Raises:
            NonFiniteError: The candidate's weights are not finite.
            DivergedError: They are not the same on all ranks.
        """
        run = self._current
        if run.step < run.num_steps:
            raise RuntimeError(f"task {run.task.number}: {run.num_steps - run.step} steps are left")
        # Averages keep what is not finite for ever: through the candidate into every later version.
        largest = largest_magnitude(run.candidate)
        if not bool(largest.isfinite()):
            raise NonFiniteError(run.task.number, run.step, {"weights": largest})
        self._ranks.require_same(run.candidate, task=run.task.number)
        return run.report(term_names(self._config.distillation, run.old), sigma=self.sigma)

    def candidate_at(self, point: float) -> nn.Module:
        """Return the network at a point of the way from the teacher to the candidate; 1 is it."""
        candidate = self._current.candidate
        if point == 1:
            return candidate
        is_grown = self._current.task.num_new_classes > 0
        teacher = widened(self.teacher, like=candidate) if is_grown else self.teacher
        return point_between(teacher, candidate, point)

    def move_candidate(self, point: float) -> None:
        """Let the network at that point be the candidate, after the last step."""
        self._current.candidate = self.candidate_at(point)

    def accept(self) -> None:
        """Close the task: the candidate is the teacher from now on, and the memory has seen it."""
        run = self._current
        self.teacher = run.candidate
        self.memory.offer(
            self._config.memory,
            run.task.inputs,
            run.task.labels,
            num_classes=sum(self.increments),
            draws=run.draws,
        )
        self._run = None

    def discard(self) -> None:
        """Close the task as if it had never begun; dust calibrated on it is forgotten too."""
        self.sigma = self._current.sigma_before
        self.increments = self._current.increments_before
        self._run = None

    def learn(self, task: Task, schedule: Schedule) -> TaskReport:
        """Learn a whole task; the candidate then waits to be accepted or discarded."""
        self.begin(task, schedule)
        while self.step():
            pass
        return self.finish()

    def require_same_student(self) -> None:
        """See that the student is the same on all ranks.

        Raises:
            DivergedError: It is not.
        """
        run = self._current
        self._ranks.require_same(run.student.network, task=run.task.number)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state inside a task as flat tensors on the CPU, ready for safetensors.

        Resume by `begin` with the same task and schedule, then `load_state_dict`: what follows is,
        on the CPU, bit for bit what would have followed without a break.
        """
        state = self._current.state_dict()
        if self.sigma is not None:
            state["sigma"] = torch.tensor(self.sigma, dtype=torch.float64)
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state_dict` was taken; the task must have been begun.

        Raises:
            ValueError: The state is another task's or another network's.
        """
        self._current.load_state_dict(state)
        self.sigma = float(state["sigma"]) if "sigma" in state else None

    def _update_student(self, run: TaskInProgress, batch: Batch) -> dict[str, Tensor]:
        """Descend the loss of a batch by one step; return its terms."""
        run.student.prepare(len(batch.labels), step=run.step, num_steps=run.num_steps)
        with (
            run.draws.inside_network(run.step, self._placement.device) as has_drawn,
            self._placement.autocast(),
        ):
            terms = self._terms(run, batch)
            if not self._ranks.is_alone and has_drawn():
                raise RanksRefusedError("model.base", DRAWS)
        # Times 1.0 where nobody shares the batch.
        run.student.backward(terms["total"] * batch.share.weight)
        terms = self._sum_over_ranks(run, batch, terms)
        # The one wait for the device in a step: nothing that is not finite may reach the weights.
        watched = {**terms, **run.student.clip()}
        if not bool(torch.stack(list(watched.values())).isfinite().all()):
            run.student.undo()
            raise NonFiniteError(run.task.number, run.step, watched)
        run.student.step()
        return terms

    def _sum_over_ranks(
        self, run: TaskInProgress, batch: Batch, terms: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Let gradient and terms be those of the whole batch."""
        weighted = torch.stack([each.detach() for each in terms.values()]) * batch.share.weight
        sums = self._ranks.sum_gradients(run.student.network, weighted)
        return dict(zip(terms, sums, strict=True))

    def _terms(self, run: TaskInProgress, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch and its terms; rivals in benchmarks/ have one of their own."""
        distillation = self._config.distillation
        return loss_terms(
            distillation,
            batch,
            student=run.student.network,
            teacher=run.teacher,
            answers_BK=run.answers.of(batch) if asks_teacher(distillation, run.old) else None,
            sigma=self.sigma,
            generator=run.draws.generator("dust", run.step, self._placement.device),
            old=run.old,
            group_generator=run.draws.generator("groups", run.step),
            absent=run.absent,
            absent_generator=run.draws.generator("absent", run.step),
        )

    @property
    def _current(self) -> TaskInProgress:
        if self._run is None:
            raise RuntimeError("no task is in progress; begin one")
        return self._run
