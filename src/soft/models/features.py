"""Feature maps of the pyramid's stages, by timm's interface, for detection and segmentation."""

from timm.models._features import feature_take_indices
from torch import Tensor, nn

from soft.errors import SettingError


class FeatureMaps:
    """Part of `SoftTransformer` that gives feature maps of its stages, and prunes those that are not needed."""

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return feature maps (B, C, H, W) of chosen stages, without the class token, and the final tokens.

        Args:
            x: images (B, in_chans, H, W).
            indices: the stages, or an integer n for the last n; None for all.
            norm: apply the final LayerNorm to the last stage's map.
            stop_early: leave out the stages after the last one that is asked for.
            output_fmt: `NCHW`, the only one.
            intermediates_only: return the maps alone.

        Raises:
            SettingError: another `output_fmt`.
        """
        if output_fmt != "NCHW":
            raise SettingError(f"output_fmt='{output_fmt}' is not known; a pyramid's features are NCHW.")
        take, last = feature_take_indices(len(self.stages), indices)
        intermediates = []
        x = self.stem(x)
        for i, (downsample, stage) in enumerate(zip(self.downsamples, self.stages)):  # noqa: B905 - no strict= in TorchScript
            if i <= last or not stop_early:  # there is no break here in TorchScript
                image = downsample(x)
                x = stage(image)
                if i in take:
                    if x.ndim == 3:
                        tokens = self.norm(x) if norm else x
                        intermediates.append(tokens[:, 1:].transpose(1, 2).reshape(image.shape))
                    else:
                        intermediates.append(x)
        if intermediates_only:
            return intermediates
        return (self.norm(x) if x.ndim == 3 else x), intermediates

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what the chosen stages do not need, and return the indices of these stages."""
        take, last = feature_take_indices(len(self.stages), indices)
        shortened = last < len(self.stages) - 1
        self.stages = self.stages[: last + 1]
        self.downsamples = self.downsamples[: last + 1]
        if shortened:
            self.num_prefix_tokens = 0
            self.num_features = self.head_hidden_size = self.feature_info[last]["num_chs"]
        if prune_norm or shortened:
            self.norm = nn.Identity()
        if prune_head or shortened:
            self.reset_classifier(0, "")
        return take
