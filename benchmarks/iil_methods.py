"""The methods that benchmarks/iil.py compares: rivals, ours, ablations (method.md, 7)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from course_trainers import JointTrainer, Trainer
from iil_ideas import (
    BatchNormTrainer,
    FeatureLearner,
    LineSearchTrainer,
    LogitAdjustedLearner,
    MixedLabelsLearner,
    SeveralStudentsTrainer,
    SharpnessAwareLearner,
)
from iil_rivals import EwcLearner, LwfLearner, ReplayLearner
from iil_trainers import (
    EarlyStoppingTrainer,
    GuardedTrainer,
    LearnerTrainer,
    Setup,
)

from teacherd.daemon.gate import GateConfig
from teacherd.models.learner import Learner
from teacherd.models.learner_config import LearnerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """One way to go through the tasks."""

    text: str
    """What it is, in a report."""
    build: Callable[[Setup], Trainer]
    memory: str = "none"
    """What it stores of old data, in words."""

    @property
    def is_variant(self) -> bool:
        """Whether it is ours but for one thing, which is what its text says then."""
        return self.text.startswith(("ours with", "idea:"))


def _change(config: LearnerConfig, changes: Mapping[str, Any]) -> LearnerConfig:
    """Return the config with keys such as `distillation.dust_weight` changed."""
    for name, value in changes.items():
        section, _, key = name.partition(".")
        changed = replace(getattr(config, section), **{key: value}) if key else value
        config = replace(config, **{section: changed})
    return config


def _changed(changes: Mapping[str, Any]) -> Callable[[Setup], Trainer]:
    """Return what builds the daemon's learner with some settings changed."""

    def build(setup: Setup) -> Trainer:
        config = _change(setup.scale.learning, changes)
        return LearnerTrainer(setup, setup.learner(config), config)

    return build


def _learned(**changes: Any) -> Callable[[Setup], Trainer]:  # noqa: ANN401 - settings
    """Return the same from `a__b` for a.b."""
    return _changed({name.replace("__", "."): value for name, value in changes.items()})


# KC-EMA as the paper has it: intermittent, towards a student in training.
_INTERMITTENT = {"consolidation.retain": 0.5, "consolidation.interval_epochs": 5}
_PLAIN = {"distillation.label_share": 1.0, "distillation.dust_weight": 0.0}
_SERVED = {**_PLAIN, "consolidation.kind": "none"}


def _rival(kind: type[Learner], *, needs_base: bool = False) -> Callable[[Setup], Trainer]:
    def build(setup: Setup) -> Trainer:
        config = _change(setup.scale.learning, _SERVED)
        options = {"base": setup.course.base} if needs_base else {}
        return LearnerTrainer(setup, setup.learner(config, kind, **options), config)

    return build


def _avalanche(name: str) -> Callable[[Setup], Trainer]:
    def build(setup: Setup) -> Trainer:
        from iil_avalanche import AvalancheTrainer  # noqa: PLC0415 - not installed with us

        return AvalancheTrainer(setup, name, setup.scale.learning)

    return build


def _idea(
    kind: type[Learner] = Learner, trainer: type[LearnerTrainer] = LearnerTrainer
) -> Callable[[Setup], Trainer]:
    def build(setup: Setup) -> Trainer:
        config = setup.scale.learning
        return trainer(setup, setup.learner(config, kind), config)

    return build


def _build_early_stopping(setup: Setup) -> Trainer:
    config = _change(setup.scale.learning, _SERVED)
    return EarlyStoppingTrainer(setup, setup.learner(config), config)


def _build_fine_tuning_ema(setup: Setup) -> Trainer:
    config = _change(setup.scale.learning, {**_PLAIN, **_INTERMITTENT})
    return LearnerTrainer(setup, setup.learner(config), config)


def _build_guarded(setup: Setup) -> Trainer:
    config = setup.scale.learning
    return GuardedTrainer(setup, setup.learner(config), config, GateConfig())


METHODS: Mapping[str, Method] = {
    "joint": Method(
        text="joint retraining from scratch on everything seen (the limit)",
        build=JointTrainer,
        memory="everything",
    ),
    "fine_tuning": Method(text="fine-tuning, student served", build=_rival(Learner)),
    "early_stopping": Method(
        text="fine-tuning with early stopping on a tenth of each task", build=_build_early_stopping
    ),
    "fine_tuning_ema": Method(
        text="fine-tuning + KC-EMA every 5 epochs, retain 0.5", build=_build_fine_tuning_ema
    ),
    "lwf": Method(text="LwF", build=_rival(LwfLearner)),
    "ewc": Method(
        text="EWC, online", build=_rival(EwcLearner, needs_base=True), memory="Fisher information"
    ),
    "replay": Method(
        text="experience replay",
        build=_rival(ReplayLearner, needs_base=True),
        memory=f"{ReplayLearner.instances_per_class} instances per class",
    ),
    "ours": Method(text="ours: DBD + consolidation by size, the defaults", build=_learned()),
    "without_fused": Method(
        text="ours without the teacher's share in the labels",
        build=_learned(distillation__label_share=1.0),
    ),
    "without_dust": Method(
        text="ours without dusted inputs", build=_learned(distillation__dust_weight=0.0)
    ),
    "without_consolidation": Method(
        text="ours without consolidation, student served",
        build=_learned(consolidation__kind="none"),
    ),
    "fused_form": Method(
        text="ours with fused labels at temperature 1, as the paper has them",
        build=_learned(distillation__form="fused", distillation__temperature=1.0),
    ),
    "noise_dust": Method(
        text="ours with noise alone as dust, as the paper has it",
        build=_learned(distillation__dust="noise"),
    ),
    "mixed_dust": Method(
        text="ours with mixed pairs alone as dust", build=_learned(distillation__dust="mixed")
    ),
    "intermittent": Method(
        text="ours with KC-EMA every 5 epochs, retain 0.5; the EMA(m_eff) of SE and STS",
        build=_changed(_INTERMITTENT),
    ),
    "spatial": Method(
        text="ours with SE every 5 epochs, retain 0.5",
        build=_changed({**_INTERMITTENT, "consolidation.kind": "spatial"}),
    ),
    "spatial_temporal": Method(
        text="ours with STS every 5 epochs, retain 0.5, p 0.3",
        build=_changed(
            {
                **_INTERMITTENT,
                "consolidation.kind": "spatial_temporal",
                "consolidation.keep_probability": 0.3,
            }
        ),
    ),
    "guarded": Method(
        text="ours, guarded: 5 % of each task held out for the gate",
        build=_build_guarded,
        memory="holdouts for the gate, 5 % of 20 tasks",
    ),
    "batch_norm_trained": Method(
        text="ours with BatchNorm statistics trained", build=_learned(batch_norm="train")
    ),
}

IDEAS: Mapping[str, Method] = {
    "idea_sharpness": Method(
        text="idea: sharpness-aware steps", build=_idea(SharpnessAwareLearner)
    ),
    "idea_features": Method(text="idea: feature distillation", build=_idea(FeatureLearner)),
    "idea_logit_adjustment": Method(
        text="idea: logits adjusted to the classes' shares", build=_idea(LogitAdjustedLearner)
    ),
    "idea_mixed_labels": Method(
        text="idea: mixed pairs with mixed and fused labels", build=_idea(MixedLabelsLearner)
    ),
    "idea_batch_norm": Method(
        text="idea: BatchNorm re-estimated", build=_idea(trainer=BatchNormTrainer)
    ),
    "idea_students": Method(
        text="idea: two students averaged", build=_idea(trainer=SeveralStudentsTrainer)
    ),
    "idea_line_search": Method(
        text="idea: line search to the student on a tenth held out",
        build=_idea(trainer=LineSearchTrainer),
        memory="a tenth of each task, to measure with",
    ),
}

AVALANCHE: Mapping[str, Method] = {
    "avalanche_lwf": Method(text="LwF of avalanche-lib", build=_avalanche("lwf")),
    "avalanche_ewc": Method(
        text="EWC of avalanche-lib, online", build=_avalanche("ewc"), memory="Fisher information"
    ),
    "avalanche_replay": Method(
        text="replay of avalanche-lib",
        build=_avalanche("replay"),
        memory=f"{ReplayLearner.instances_per_class} instances per class",
    ),
}

ALL_METHODS: Mapping[str, Method] = {**METHODS, **AVALANCHE, **IDEAS}
