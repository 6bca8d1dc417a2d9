"""What the pyramid and the flat encoder share of timm's interface: classifier, checkpointing, weights in any form."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from soft.models.blocks import create_classifier
from soft.models.checkpoints import fit_to_model


class TimmInterface:
    """Part of a SOFT model with `stages`, `head` and `global_pool`."""

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Let the backward pass recompute each block's activations, instead of keeping them in memory."""
        for stage in self.stages:
            stage.grad_checkpointing = enable

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        """Return the classifier: a Linear, or an Identity if there are no classes."""
        return self.head

    @torch.jit.ignore
    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a freshly initialised classifier in place, and another pooling if given.

        Args:
            num_classes: its width; 0 for none.
            global_pool: as for the model; None to keep it.

        Raises:
            SettingError: a pooling that is not known, or that this model cannot change to.
        """
        if global_pool is not None:
            self.check_new_pool(global_pool)
            self.global_pool = global_pool
            if hasattr(self, "_model_args"):  # timm's record of how to build the model, which checkpoints hold
                self._model_args = {**self._model_args, "global_pool": global_pool}
        self.num_classes = num_classes
        getattr(self, "pretrained_cfg", {}).pop("label_names", None)  # they named the old classifier's outputs
        like = next(self.parameters())
        self.head = create_classifier(self.num_features, num_classes).to(like.device, like.dtype)
        self.head.train(self.training)

    @torch.jit.ignore
    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False):
        """Load weights in any form that `soft.models.key_names.to_soft_keys` reads, resized to the model.

        timm's `checkpoint_path` and `load_checkpoint` call this method and no filter function.

        Raises:
            SettingError: keys or shapes do not fit, see `soft.models.checkpoints.fit_to_model`.
        """
        return super().load_state_dict(fit_to_model(state_dict, self, strict), strict=strict, assign=assign)
