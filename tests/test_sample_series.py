"""Samples over time: all of it, however long, in bounded memory."""

from teacherd.daemon.sample_series import SampleSeries


def test_samples_come_back_as_they_went_in() -> None:
    """A value that was not there yet is null before, one that is gone is null after."""
    series = SampleSeries(interval_ms=10)
    series.append(0, {"lag": 1.0})
    series.append(10, {"lag": 2.0, "drift": 3.0})
    series.append(20, {"drift": 4.0})

    assert {
        "interval_ms": 10,
        "at_ms": [0, 10, 20],
        "series": {"lag": [1.0, 2.0, None], "drift": [None, 3.0, 4.0]},
    } == series.to_json()


def test_what_comes_too_soon_is_passed_over() -> None:
    """Whoever samples need not know the interval."""
    series = SampleSeries(interval_ms=10)
    for at_ms in range(0, 30, 3):
        series.append(at_ms, {"lag": float(at_ms)})

    assert [0, 12, 24] == series.to_json()["at_ms"]


def test_a_long_series_gets_coarser_and_loses_no_stretch_of_time() -> None:
    """A hundred thousand samples: a few hundred are left, evenly over all of the time."""
    series = SampleSeries(interval_ms=1)
    for at_ms in range(100_000):
        series.append(at_ms, {"lag": float(at_ms)})
    kept = series.to_json()
    gaps = {after - before for before, after in zip(kept["at_ms"], kept["at_ms"][1:], strict=False)}

    assert 300 <= len(kept["at_ms"]) <= 600
    assert {kept["interval_ms"]} == gaps
    assert kept["at_ms"][0] < 1000
    assert kept["at_ms"][-1] > 99_000
    assert kept["series"]["lag"] == [float(at_ms) for at_ms in kept["at_ms"]]


def test_names_are_bounded_too() -> None:
    """A hundred detectors would else be a hundred series for ever."""
    series = SampleSeries(interval_ms=1)
    series.append(0, {f"drift.{number}": 1.0 for number in range(100)})
    for at_ms in range(1, 3000):
        series.append(at_ms, {"lag": 1.0})

    assert ["lag"] == list(series.to_json()["series"])
