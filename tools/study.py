"""The study of `make sweep`: a queue of trials in a database, which any number of workers share.

A call puts its trials into the study (`add`). Every worker takes one after the other (`work`), until none waits or runs
any more, whoever has added them. So the number of trials is the sum of what was asked for, also if workers die.

A worker gives a sign of life every few seconds: an attribute of its trial changes. If another worker sees no change for
`grace` seconds, by its own clock, it fails the trial; so does a worker that is interrupted. A failed trial without the
reason why is put into the queue once more, with the same params.

Optuna's heartbeat is not used. `Study.optimize`, which alone gives it, makes a new trial where none is waiting; a trial
is lost if its worker dies before the first heartbeat, or the one that notices it before the trial is in the queue
again; and one error of the database ends the heartbeats, so that a living worker is taken for dead.
"""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import optuna
from optuna.exceptions import TrialPruned, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState
from storage import UNAVAILABLE

from brain_tumor.errors import PipelineError
from brain_tumor.progress import bar

# Attributes of a trial: it comes from the queue; number of the trial that it repeats; why it failed; the sign of life.
_QUEUED, _REPEATS, _REASON, _ALIVE = "queued", "repeats", "reason", "alive"
_SUPERFLUOUS = "superfluous"  # a reason: nobody has asked for this trial
_SECONDS = 10  # between signs of life, at most
_IN_A_ROW = 3  # failed trials after which a worker ends: they may be the machine's fault


class TrialFailed(RuntimeError):
    """A trial that would fail again with the same params; the message says why."""


class Sampler(optuna.samplers.TPESampler):
    """TPE whose random numbers depend on a trial's number alone, so that no two workers and no two calls draw the same.

    Args:
        seed: number of the trial.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed=seed, multivariate=True)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self.__init__(trial.number)
        super().before_trial(study, trial)


def add(study: optuna.Study, count: int, first: dict) -> None:
    """Put trials into the queue; the first one of a study gets its params from `first`."""
    for params in [{} if study.trials else first, *[{}] * count][:count]:
        study.enqueue_trial(params, user_attrs={_QUEUED: True})


def asked_for(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Those of a study's trials that were not run again, and that somebody has asked for."""
    return [
        trial
        for trial in trials
        if trial.state != TrialState.FAIL or trial.user_attrs.get(_REASON, _SUPERFLUOUS) != _SUPERFLUOUS
    ]


def work(study: optuna.Study, objective: Callable[[optuna.Trial], float], grace: float) -> None:
    """Run trials until none waits or runs any more, and print a line about each.

    Args:
        study: which is maximised.
        objective: runs a trial and returns its score; meanwhile it may report scores, and raise TrialPruned.
        grace: seconds without a sign of life after which a trial is given to another worker. For as long, what the
            database does not do is tried again.

    Raises:
        PipelineError: several trials in a row failed.
    """
    in_a_row = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that its trial is given back at once
    with _Pulse(study, grace) as pulse, bar(desc=study.study_name, unit="trial", total=0) as progress:
        while True:
            trials = asked_for(pulse.patiently(_put_back, study))
            states = [trial.state for trial in trials]
            waiting, running = states.count(TrialState.WAITING), states.count(TrialState.RUNNING)
            progress.total, progress.n = len(trials), len(trials) - waiting - running
            progress.refresh()
            if not waiting and not running:
                return
            if not waiting:  # those that run may have to be run again
                time.sleep(pulse.seconds)
                continue
            trial = pulse.patiently(study.ask)
            if pulse.patiently(_is_superfluous, study, trial):
                pulse.patiently(_end, study, trial, TrialState.FAIL, reason=_SUPERFLUOUS)
                continue
            failed, said = _run(study, trial, objective, pulse)
            progress.write(f"{study.study_name}-{trial.number}: {said}")
            in_a_row = in_a_row + 1 if failed else 0
            if in_a_row == _IN_A_ROW:
                raise PipelineError(f"{in_a_row} trials in a row failed here, the last one with: {said}")


def is_hopeless(trial: optuna.Trial, score: float, step: int) -> bool:
    """Report a score; whether the trial should be stopped. Where the database is not available, it goes on.

    Raises:
        UpdateFinishedTrialError: the trial was given to another worker.
    """
    try:
        trial.report(score, step)
        return trial.should_prune()
    except UNAVAILABLE:
        return False


def _run(study: optuna.Study, trial: optuna.Trial, objective: Callable, pulse: "_Pulse") -> tuple[bool, str]:
    """Run a trial and tell the study how it ended: whether it failed, and what to print about it."""
    result = {}
    with pulse.of(trial):
        try:
            result["value"] = objective(trial)
            state, said = TrialState.COMPLETE, f"{result['value']:.4f}"
        except TrialPruned as error:
            state, said = TrialState.PRUNED, f"pruned {error}"
        except TrialFailed as error:
            state, said = TrialState.FAIL, str(error)
            result["reason"] = said
        except UpdateFinishedTrialError:
            state, said = None, ""
        except BaseException:  # interrupted, or it does not fit in here: another worker may try
            with suppress(*UNAVAILABLE):
                _end(study, trial, TrialState.FAIL)
                _put_back(study)
            raise
        if state is None or not pulse.patiently(_end, study, trial, state, **result):
            return False, "taken over by another worker, since no sign of life came from this one"
    return state == TrialState.FAIL, said


def _end(study: optuna.Study, trial: optuna.Trial | FrozenTrial, state: TrialState, value=None, reason="") -> bool:
    """Tell how a trial ended; False if another worker has done so before."""
    try:
        if reason:
            trial.set_user_attr(_REASON, reason)
        study.tell(trial.number, value, state=state)
    except (UpdateFinishedTrialError, ValueError):  # ValueError: it was known before the database was asked to write
        return study.get_trials(deepcopy=False)[trial.number].state == state  # the same call, repeated
    return True


def _put_back(study: optuna.Study) -> list[FrozenTrial]:
    """Queue trials that ended without a result and without a reason again; all trials, once there are none of those."""
    while True:
        trials = study.get_trials(deepcopy=False)
        repeated = {trial.user_attrs.get(_REPEATS) for trial in trials}
        failed = [trial for trial in trials if trial.state == TrialState.FAIL and trial.number not in repeated]
        lost = [trial for trial in failed if _QUEUED in trial.user_attrs and _REASON not in trial.user_attrs]
        if not lost:
            return trials
        for trial in lost:
            params = trial.system_attrs["fixed_params"] | trial.params
            study.enqueue_trial(params, user_attrs={_QUEUED: True, _REPEATS: trial.number})


def _is_superfluous(study: optuna.Study, trial: optuna.Trial) -> bool:
    """Whether it was made because another worker has taken the last one, or repeats what another trial repeats."""
    known = trial.user_attrs
    earlier = study.get_trials(deepcopy=False)[: trial.number]
    return _QUEUED not in known or (
        _REPEATS in known and any(other.user_attrs.get(_REPEATS) == known[_REPEATS] for other in earlier)
    )


class _Pulse(threading.Thread):
    """Gives signs of life of this worker's trial, and fails the trials of workers that give none.

    Attributes:
        seconds: between two of them.
    """

    def __init__(self, study: optuna.Study, grace: float) -> None:
        super().__init__(daemon=True)
        self._study, self._grace, self.seconds = study, grace, min(_SECONDS, grace / 4)
        self._trial: optuna.Trial | None = None
        self._ended = threading.Event()
        self._seen: dict[int, tuple[int | None, float]] = {}  # number -> sign of life, and when it was first seen

    def __enter__(self) -> "_Pulse":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self.join()

    @contextmanager
    def of(self, trial: optuna.Trial) -> Iterator[None]:
        """Give signs of life of this trial during the block."""
        self._trial = trial
        try:
            yield
        finally:
            self._trial = None

    def patiently(self, call: Callable, *arguments: object, **options: object) -> object:
        """What a call returns; while the database is not available it is repeated, but not for ever."""
        end = time.monotonic() + self._grace
        while True:
            try:
                return call(*arguments, **options)
            except UNAVAILABLE:
                if time.monotonic() > end:
                    raise
                time.sleep(self.seconds)

    def run(self) -> None:
        """Until the worker ends."""
        count = 0
        while not self._ended.wait(self.seconds):
            count += 1
            try:
                if trial := self._trial:
                    with suppress(UpdateFinishedTrialError):  # it has just ended
                        trial.set_user_attr(_ALIVE, count)
                self._look()
            except UNAVAILABLE:  # nobody else can have given signs of life either
                self._seen.clear()

    def _look(self) -> None:
        now = time.monotonic()
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        signs = {trial.number: trial.user_attrs.get(_ALIVE) for trial in running}
        former = self._seen
        self._seen = {
            number: former[number] if number in former and former[number][0] == sign else (sign, now)
            for number, sign in signs.items()
        }
        for trial in running:
            if now - self._seen[trial.number][1] > self._grace:
                _end(self._study, trial, TrialState.FAIL)
