"""What trials of one device share: frozen weights, and activations that are kept."""

from __future__ import annotations

from collections.abc import Hashable
from weakref import WeakValueDictionary

from torch import Tensor

from fpt_ray.models import SequenceModel
from fpt_ray.models.cuts import Cut
from fpt_ray.models.weights import digest_tensor
from fpt_ray.tasks import Split, Task
from fpt_ray.training import features
from fpt_ray.training.features import Store, Stores, fits, worth_keeping


class Shelf:
    """Frozen weights and kept activations, held as long as a trial needs them.

    Args:
        max_bytes: memory for the activations of all trials together; None for
            ``features.MAX_BYTES``.
    """

    def __init__(self, max_bytes: int | None = None) -> None:
        self._max_bytes = features.MAX_BYTES if max_bytes is None else max_bytes
        self._weights: WeakValueDictionary[Hashable, FrozenWeights] = WeakValueDictionary()
        self._stores: WeakValueDictionary[Hashable, Store] = WeakValueDictionary()

    @property
    def num_bytes(self) -> int:
        """Count the bytes of the activations that are kept, once they are all there."""
        return sum(store.num_bytes for store in self._stores.values())

    def weights(self, identity: Hashable, model: SequenceModel) -> FrozenWeights:
        """Give the weights of a body, those of the first model with an identity.

        Args:
            identity: equal for bodies of equal weights.
            model: materialised.
        """
        found = self._weights.get(identity)
        if found is None:
            found = self._weights[identity] = FrozenWeights(model)
        return found

    def stores(
        self,
        identity: Hashable,
        model: SequenceModel,
        cut: Cut,
        task: Task,
        num_trained_on: int,
    ) -> Stores:
        """Decide what of a trial is worth keeping and fits, and share it where it is there already.

        Args:
            identity: equal for trials that compute the same below the cut.
            model: materialised.
            cut: of the model.
            task: the task that it was built for.
            num_trained_on: sequences in all batches of the trial together.
        """
        sizes = worth_keeping(model, task, num_trained_on)
        chosen: dict[str, Store] = {}
        for split, size in sizes.items():
            store = self._store((identity, cut.place, split), Store(model, cut, size), split)
            if store is not None:
                chosen[split] = store
        return Stores(**chosen)

    def _store(self, identity: Hashable, fresh: Store, split: Split) -> Store | None:
        found = self._stores.get(identity)
        if found is None and fits(split, fresh.num_bytes, self._max_bytes - self.num_bytes):
            found = self._stores[identity] = fresh
        return found


class FrozenWeights:
    """A body's weights on a device, shared by trials; never written to.

    Args:
        model: materialised.

    Attributes:
        model: of its architecture; what stands in its ends is of no account.
    """

    def __init__(self, model: SequenceModel) -> None:
        self.model = model
        self._digests: dict[str, str] = {}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Give the weights by the names that they have in the whole model."""
        named = self.model.backbone.named_parameters(prefix="backbone")
        return {name: value.detach() for name, value in named}

    def lend(self, model: SequenceModel) -> None:
        """Have another model of the same body use these very weights."""
        state = {name: value.detach() for name, value in self.model.backbone.named_parameters()}
        model.backbone.load_state_dict(state, strict=True, assign=True)

    def digest(self, name: str) -> str:
        """Hash a parameter as it is now; once for all trials that ask between two updates."""
        if name not in self._digests:
            self._digests[name] = digest_tensor(self.model.get_parameter(name))
        return self._digests[name]

    def may_have_changed(self) -> None:
        """Have everything hashed anew: somebody has trained."""
        self._digests.clear()
