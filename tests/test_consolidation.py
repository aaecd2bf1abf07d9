"""Tests of consolidation: the properties of method.md, sections 3 and 4."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_networks import build_tiny_cnn
from torch import Tensor, nn

from teacherd.models.consolidation import (
    ConsolidationConfig,
    consolidate,
    consolidate_after_epoch,
    draw_kept,
    plan_consolidations,
    retained_share,
)
from teacherd.models.draws import Draws

DRAWS = Draws(seed=11, task=2)


def tensors(network: nn.Module) -> list[Tensor]:
    """Return copies of all parameters and buffers."""
    return [each.detach().clone() for each in [*network.parameters(), *network.buffers()]]


def naive_consolidate(
    teacher: nn.Module, student: nn.Module, m: float, alpha: float, kept: list[bool]
) -> list[Tensor]:
    """Return what the formulas say, one tensor at a time, in float64."""
    result = []
    for keep, mine, theirs in zip(kept, teacher.parameters(), student.parameters(), strict=True):
        mixed = m * mine.double() + (1 - m) * theirs.double()
        result.append(mine.double() if keep else mixed)
    for mine, theirs in zip(teacher.buffers(), student.buffers(), strict=True):
        mixed = alpha * mine.double() + (1 - alpha) * theirs.double()
        result.append(mixed if mine.is_floating_point() else theirs.double())
    return [each.detach() for each in result]


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.9, 1.0])
def test_a_consolidation_is_the_formula(momentum: float) -> None:
    """Parameters and float buffers are averaged, integer buffers copied, kept tensors left."""
    teacher, student = build_tiny_cnn(1), build_tiny_cnn(2)
    student.norm.num_batches_tracked.fill_(7)
    kept = [True, False, False, True, False]
    expected = naive_consolidate(teacher, student, momentum, 0.6, kept)

    consolidate(teacher, student, momentum=momentum, alpha=0.6, kept=torch.tensor(kept))

    for wanted, found in zip(expected, tensors(teacher), strict=True):
        torch.testing.assert_close(wanted, found.double(), atol=1e-7, rtol=1e-6)
    assert 7 == int(teacher.norm.num_batches_tracked)


def test_the_student_is_not_changed() -> None:
    """Consolidation reads the student only."""
    teacher, student = build_tiny_cnn(1), build_tiny_cnn(2)
    before = tensors(student)
    consolidate(teacher, student, momentum=0.5)

    assert all(torch.equal(a, b) for a, b in zip(before, tensors(student), strict=True))


def test_an_exact_trajectory() -> None:
    """Three consolidations at 0.5 towards 1 from 0 leave an eighth of the way."""
    teacher, student = nn.Linear(1, 1), nn.Linear(1, 1)
    for parameter in teacher.parameters():
        nn.init.zeros_(parameter)
    for parameter in student.parameters():
        nn.init.ones_(parameter)
    trajectory = []
    for _ in range(3):
        consolidate(teacher, student, momentum=0.5)
        trajectory.append(float(teacher.weight.detach()))

    assert [0.5, 0.75, 0.875] == trajectory


def test_with_nothing_kept_a_spatial_update_is_an_ema_bit_for_bit() -> None:
    """With p = 0 it equals EMA exactly, not only nearly (method.md 4)."""
    student = build_tiny_cnn(2)
    plain, spatial = build_tiny_cnn(1), build_tiny_cnn(1)
    consolidate(plain, student, momentum=0.7)
    kept = draw_kept(5, keep_probability=0.0, draws=DRAWS, update=0)
    consolidate(spatial, student, momentum=0.7, kept=kept)

    assert all(torch.equal(a, b) for a, b in zip(tensors(plain), tensors(spatial), strict=True))


def test_with_all_kept_the_teachers_parameters_freeze() -> None:
    """With p = 1 it leaves every parameter as it is, bit for bit (method.md 4)."""
    teacher = build_tiny_cnn(1)
    before = [parameter.detach().clone() for parameter in teacher.parameters()]
    kept = draw_kept(5, keep_probability=1.0, draws=DRAWS, update=0)
    consolidate(teacher, build_tiny_cnn(2), momentum=0.1, kept=kept)

    after = [parameter.detach() for parameter in teacher.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_spatial_ensemble_holds_whole_tensors_of_past_students() -> None:
    """With m = 0 each tensor is exactly one that some student had (method.md 4)."""
    teacher = build_tiny_cnn(0)
    past = [copy.deepcopy(teacher)]
    for update in range(8):
        student = build_tiny_cnn(update + 1)
        past.append(student)
        kept = draw_kept(5, keep_probability=0.6, draws=DRAWS, update=update)
        consolidate(teacher, student, momentum=0.0, kept=kept)

    origins = [
        [n for n, network in enumerate(past) if torch.equal(mine, list(network.parameters())[i])]
        for i, mine in enumerate(teacher.parameters())
    ]
    # BatchNorm's scale and shift start alike in all; the three drawn tensors have one origin each.
    assert [1, 1, 1] == [len(origins[i]) for i in (0, 3, 4)]
    assert all(origins)
    assert len({origins[i][0] for i in (0, 3, 4)}) > 1


@pytest.mark.parametrize(("p", "m"), [(0.3, 0.5), (0.7, 0.0), (0.5, 0.9)])
def test_the_mean_of_many_spatial_updates_is_an_ema(p: float, m: float) -> None:
    """In expectation STS is EMA at m_eff = 1 - (1 - p)(1 - m) (method.md 4)."""
    num_draws = 4000
    kept = torch.stack(
        [
            draw_kept(5, keep_probability=p, draws=Draws(seed=seed, task=1), update=0)
            for seed in range(num_draws)
        ]
    )
    mean_share = torch.where(kept, 1.0, m).mean(dim=0)

    m_eff = 1 - (1 - p) * (1 - m)
    # Five standard errors; the seeds are fixed, so this holds always or never.
    tolerance = 5 * (1 - m) * math.sqrt(p * (1 - p) / num_draws)
    torch.testing.assert_close(torch.full((5,), m_eff), mean_share, atol=tolerance, rtol=0)


def test_masks_are_those_of_their_update_whenever_they_are_drawn() -> None:
    """A resumed task draws the masks that it would have drawn (method.md 4)."""
    uninterrupted = [
        draw_kept(40, keep_probability=0.5, draws=DRAWS, update=n).tolist() for n in range(4)
    ]
    resumed = [
        draw_kept(40, keep_probability=0.5, draws=Draws(seed=11, task=2), update=n).tolist()
        for n in (2, 3)
    ]

    assert uninterrupted[2:] == resumed
    assert 4 == len({tuple(mask) for mask in uninterrupted})


@pytest.mark.parametrize(
    ("epochs", "freezing", "interval", "expected"),
    [
        (40, 10, 5, (15, 20, 25, 30, 35, 40)),
        (40, 10, 7, (12, 19, 26, 33, 40)),
        (12, 10, 5, (12,)),
        (11, 10, 1, (11,)),
        (10, 10, 1, (10,)),
        (3, 10, 1, (3,)),
        (1, 0, 1, (1,)),
        (3, 0, 1, (1, 2, 3)),
        (40, 10, None, (40,)),
        (3, 0, None, (3,)),
    ],
)
def test_consolidations_are_counted_back_from_the_end(
    epochs: int, freezing: int, interval: int | None, expected: tuple[int, ...]
) -> None:
    """The last epoch always consolidates, none inside the freezing period does otherwise."""
    config = ConsolidationConfig(freezing_epochs=freezing, interval_epochs=interval)

    assert expected == plan_consolidations(config, epochs=epochs, num_instances=9).epochs


@given(
    kind=st.sampled_from(["ema", "spatial", "spatial_temporal"]),
    retain=st.floats(0.3, 0.95),
    epochs=st.integers(1, 100),
    interval=st.integers(1, 20),
)
def test_every_kind_retains_what_is_asked_for(
    kind: str, retain: float, epochs: int, interval: int
) -> None:
    """After all consolidations the expected share of the old teacher is `retain`."""
    config = ConsolidationConfig(
        kind=kind,  # type: ignore[arg-type] # hypothesis draws plain strings
        retain=retain,
        interval_epochs=interval,
    )
    plan = plan_consolidations(config, epochs=epochs, num_instances=9)
    m_eff = 1 - (1 - plan.keep_probability) * (1 - plan.momentum)

    assert m_eff ** len(plan.epochs) == pytest.approx(retain, rel=1e-6)
    assert plan.alpha == pytest.approx(m_eff, rel=1e-6)


@given(sizes=st.lists(st.integers(1, 400), min_size=1, max_size=8))
def test_what_is_retained_does_not_depend_on_how_a_stream_is_cut(sizes: list[int]) -> None:
    """Without `retain` the size decides: 200 instances leave 37 %, in one task or in many."""
    config = ConsolidationConfig(horizon_instances=200, least_retain=0)
    plans = [plan_consolidations(config, epochs=40, num_instances=size) for size in sizes]
    left = math.prod(plan.alpha for plan in plans)

    assert math.exp(-sum(sizes) / 200) == pytest.approx(left)
    assert all((40,) == plan.epochs for plan in plans)


def test_however_large_a_task_it_leaves_so_much_of_the_old_teacher() -> None:
    """The size decides, down to `least_retain`; new classes have a share of their own."""
    config = ConsolidationConfig(horizon_instances=900, least_retain=0.5)

    assert math.exp(-100 / 900) == pytest.approx(config.retain_of(100))
    assert [0.5, 0.5] == [config.retain_of(size) for size in (2_500, 100_000)]
    assert config.retain_of(100_000, has_new_classes=True) < 0.5
    assert ConsolidationConfig(retain=0.0).retain_of(100_000) == 0


def test_spatial_temporal_takes_as_much_as_it_can_of_a_large_task() -> None:
    """What the size would leave is less than is left alone: the rest is taken over whole."""
    config = ConsolidationConfig(kind="spatial_temporal", keep_probability=0.1, least_retain=0)
    plan = plan_consolidations(config, epochs=40, num_instances=5_000)

    assert (0.1, 0.0) == (plan.keep_probability, plan.momentum)


def test_a_given_momentum_is_taken_as_it_is() -> None:
    """The factor alpha can be given; then `retain` plays no part (method.md 3)."""
    plan = plan_consolidations(
        ConsolidationConfig(momentum=0.8, retain=0.1), epochs=40, num_instances=9
    )

    assert (0.8, 0.8) == (plan.alpha, plan.momentum)


def test_without_consolidation_the_student_becomes_the_teacher() -> None:
    """`none` copies the student exactly, once, at the end, and retains nothing."""
    teacher, student = build_tiny_cnn(1), build_tiny_cnn(2)
    plan = plan_consolidations(ConsolidationConfig(kind="none"), epochs=4, num_instances=9)
    for epoch in (1, 2, 3, 4):
        consolidate_after_epoch(epoch, plan, teacher=teacher, student=student, draws=DRAWS)

    assert (4,) == plan.epochs
    assert all(torch.equal(a, b) for a, b in zip(tensors(teacher), tensors(student), strict=True))
    assert 0.0 == retained_share(plan, sizes=[3, 5], draws=DRAWS)


@pytest.mark.parametrize("kind", ["ema", "spatial", "spatial_temporal"])
def test_the_retained_share_is_what_a_moving_teacher_shows(kind: str) -> None:
    """From ones towards zeros, what is left is the share retained; of statistics, exactly that."""
    config = ConsolidationConfig(kind=kind, retain=0.5, keep_probability=0.4)  # type: ignore[arg-type] # parametrised
    plan = plan_consolidations(config, epochs=40, num_instances=9)
    teacher, student = build_tiny_cnn(1), build_tiny_cnn(1)
    for one, zero in zip(teacher.parameters(), student.parameters(), strict=True):
        nn.init.ones_(one)
        nn.init.zeros_(zero)
    nn.init.ones_(teacher.norm.running_mean)
    nn.init.zeros_(student.norm.running_mean)
    for epoch in range(1, 41):
        consolidate_after_epoch(epoch, plan, teacher=teacher, student=student, draws=DRAWS)

    flat = torch.cat([parameter.detach().flatten() for parameter in teacher.parameters()])
    sizes = [parameter.numel() for parameter in teacher.parameters()]
    assert float(flat.mean()) == pytest.approx(
        retained_share(plan, sizes=sizes, draws=DRAWS), abs=1e-6
    )
    assert teacher.norm.running_mean.tolist() == pytest.approx([config.retain] * 4)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"retain": 1.0}, "retain: 1.0"),
        ({"retain": -0.1}, "retain: -0.1"),
        ({"horizon_instances": 0}, "horizon_instances: 0"),
        ({"least_retain": 1.0}, "least_retain: 1.0"),
        ({"momentum": 1.0}, "momentum: 1.0"),
        ({"keep_probability": 1.5}, "keep_probability: 1.5"),
        ({"freezing_epochs": -1}, "freezing_epochs: -1"),
        ({"interval_epochs": 0}, "interval_epochs: 0"),
        (
            {"kind": "spatial_temporal", "retain": 0.3, "keep_probability": 0.4},
            "keep_probability: 0.4: must be at most 0.3",
        ),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(fields: dict[str, float], named: str) -> None:
    """The error names field and value; STS cannot retain less than it leaves alone."""
    with pytest.raises(ValueError, match=f"^{named}"):
        ConsolidationConfig(**fields)  # type: ignore[arg-type] # parametrised
