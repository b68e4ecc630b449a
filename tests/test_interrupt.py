"""Ctrl-C: once in order, twice at once."""

import signal

import pytest

from rllib_ppg.app.interrupt import Interrupt, end_tune_loop


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")]
)
def test_the_first_is_a_request_and_the_second_ends_at_once(number: signal.Signals, name: str):
    calls = []
    with Interrupt(calls.append) as interrupt:
        assert not interrupt.requested
        signal.raise_signal(number)
        assert interrupt.requested and calls == [name]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)


def test_the_handlers_from_before_are_put_back():
    before = {number: signal.getsignal(number) for number in Interrupt.SIGNALS}
    with Interrupt():
        assert signal.getsignal(signal.SIGINT) != before[signal.SIGINT]
    assert {number: signal.getsignal(number) for number in Interrupt.SIGNALS} == before


def test_tunes_loop_is_ended_by_the_signal_that_it_listens_to():
    got = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
    end_tune_loop()
    signal.signal(signal.SIGUSR1, before)
    assert got == [signal.SIGUSR1]


def test_tune_still_listens_to_it():
    import inspect

    from ray.tune import tune

    assert "SIGUSR1" in inspect.getsource(tune._setup_signal_catching)
