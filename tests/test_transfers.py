"""What moves between host and device, and that nothing waits, counted by torch on "meta".

A tensor on "meta" has no data: whoever reads one on the host gets an error, and a copy to it is
seen by a dispatch mode as a copy to any device would be.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_learner import AUX, CATEGORICAL, POLICY
from torch.utils._python_dispatch import TorchDispatchMode

from rllib_ppg.core.encoders import ImpalaEncoder
from rllib_ppg.core.learner import PhasicLearner, PolicyBatch
from rllib_ppg.core.networks import PhasicNetwork
from rllib_ppg.core.segments import SegmentStore

META, CPU = torch.device("meta"), torch.device("cpu")
ENVS, STEPS, SHAPE = 4, 6, (8, 8, 3)
ROWS, FRAME = ENVS * STEPS, 8 * 8 * 3


class Traffic(TorchDispatchMode):
    """Counts what goes to and comes from the device."""

    def __init__(self) -> None:
        super().__init__()
        self.uploads: list[torch.Tensor] = []
        self.waits: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [x for x in args if isinstance(x, torch.Tensor)]
        name = func.overloadpacket.__name__
        if name == "_to_copy" and tensors[0].device != result.device:
            self._moved(tensors[0], result)
        if name == "copy_" and tensors[0].device != tensors[1].device:
            self._moved(tensors[1], tensors[0])
        if name in ("_local_scalar_dense", "nonzero", "equal") and tensors[0].device == META:
            self.waits.append(name)
        return result

    def _moved(self, source: torch.Tensor, target: torch.Tensor) -> None:
        if target.device == META:
            self.uploads.append(source)
        else:
            self.waits.append("download")

    @property
    def frame_bytes(self) -> int:
        return sum(x.nbytes for x in self.uploads if x.dtype == torch.uint8)

    @property
    def other_uploads(self) -> int:
        return sum(x.dtype != torch.uint8 and x.numel() > 1 for x in self.uploads)


def make_learner(**policy) -> PhasicLearner:
    network = PhasicNetwork(lambda: ImpalaEncoder(SHAPE, widths=(4,), hidden_size=8, blocks=1), 4)
    return PhasicLearner(
        network,
        CATEGORICAL,
        replace(POLICY, nminibatch=2, **policy),
        replace(AUX, aux_mbsize=2),
        device=META,
        micro_batch_size=5,
        generator=np.random.default_rng(0),
    )


def make_store(device: torch.device) -> SegmentStore:
    store = SegmentStore(ENVS, STEPS, SHAPE, devices=[device])
    rows = store.append(np.arange(ENVS))
    store.write(rows, np.zeros((ENVS, STEPS, *SHAPE), np.uint8))
    store.value_targets[rows] = 0.0
    return store


def make_batch(store: SegmentStore) -> PolicyBatch:
    column = np.zeros((ENVS, STEPS), np.float32)
    actions = np.zeros((ENVS, STEPS), np.int64)
    return PolicyBatch(store.frames(), actions, column, column, column, column)


def policy_phase(learner: PhasicLearner, store: SegmentStore) -> Traffic:
    batch = make_batch(store)
    with Traffic() as traffic:
        steps = list(learner.policy_steps(batch))
    assert len(steps) == 2 * 2
    return traffic


def aux_phase(learner: PhasicLearner, store: SegmentStore) -> Traffic:
    with Traffic() as traffic:
        phase = learner.begin_aux_phase(store)
        while not phase.done:
            phase.step()
    return traffic


def test_a_frame_is_uploaded_once_where_the_store_stands_on_the_device():
    with Traffic() as traffic:
        store = make_store(META)
    assert traffic.frame_bytes == ROWS * FRAME
    learner = make_learner()
    assert policy_phase(learner, store).frame_bytes == 0
    assert aux_phase(learner, store).frame_bytes == 0


def test_a_store_on_the_host_uploads_each_frame_once_a_pass_as_bytes():
    learner, store = make_learner(), make_store(CPU)
    assert policy_phase(learner, store).frame_bytes == 2 * ROWS * FRAME
    # Epoch 0, which records the old policy, and two epochs.
    assert aux_phase(learner, store).frame_bytes == 3 * ROWS * FRAME


@pytest.mark.parametrize("place", [CPU, META])
@pytest.mark.parametrize("settings", [{}, {"grad_clip": 1.0}, {"n_epoch_vf": 1, "n_epoch_pi": 3}])
def test_nothing_waits_for_the_device_in_a_phase(place, settings):
    learner, store = make_learner(), make_store(place)
    assert policy_phase(learner, store).waits == []
    assert aux_phase(learner, store).waits == []


def test_columns_and_row_numbers_are_uploaded_once_not_by_minibatch():
    learner, store = make_learner(), make_store(META)
    # Five columns, and the row numbers of two epochs.
    assert policy_phase(learner, store).other_uploads == 5 + 2
    # The targets, and the row numbers of two epochs.
    assert aux_phase(learner, store).other_uploads == 1 + 2


def test_the_counter_sees_a_wait_and_an_upload():
    with Traffic() as traffic:
        x = torch.zeros(3, dtype=torch.uint8).to(META)
        with pytest.raises(Exception, match="meta"):
            x.sum().item()
    assert traffic.frame_bytes == 3
