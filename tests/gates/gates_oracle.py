"""Every gate family again, naively: numpy in float64, straight from the formula and the weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from timm import layers
from timm.layers import cbam, coord_attn, non_local_attn
from timm.layers import lambda_layer as lambda_layer_of
from timm.layers.squeeze_excite import SqueezeExciteCl
from timm.models import _efficientnet_blocks, ghostnet, hgnet, senet
from timm.models.csatv2 import Block as Csatv2Block
from torch import nn
from torchvision.ops import misc

Array = np.ndarray[Any, Any]
Gates = list[tuple[str, Array]]
HIGH, WIDE, CHANNELS = 14, 21, 8


def numbers(parameter: Any) -> Array:
    return np.asarray(parameter.detach().double().numpy())


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def hard_sigmoid(x: Array) -> Array:
    return np.clip(x + 3, 0, 6) / 6


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def hard_swish(x: Array) -> Array:
    return x * hard_sigmoid(x)


def softmax(x: Array, axis: int) -> Array:
    raised = np.exp(x - x.max(axis=axis, keepdims=True))
    return raised / raised.sum(axis=axis, keepdims=True)


def conv(x: Array, layer: Any) -> Array:
    """Return a convolution (batch, channel, row, col), tap by tap."""
    weight = numbers(layer.weight)
    (up, across), (down, right), (far, wide) = layer.padding, layer.stride, layer.dilation
    padded = np.pad(x, ((0, 0), (0, 0), (up, up), (across, across)))
    rows = (padded.shape[2] - far * (weight.shape[2] - 1) - 1) // down + 1
    cols = (padded.shape[3] - wide * (weight.shape[3] - 1) - 1) // right + 1
    each = weight.shape[0] // layer.groups
    out = np.zeros((len(x), weight.shape[0], rows, cols))
    for channel in range(weight.shape[0]):
        first = channel // each * weight.shape[1]
        seen = padded[:, first : first + weight.shape[1]]
        for i in range(weight.shape[2]):
            for j in range(weight.shape[3]):
                taps = seen[:, :, i * far :: down, j * wide :: right][:, :, :rows, :cols]
                out[:, channel] += np.einsum("bcij,c->bij", taps, weight[channel, :, i, j])
    return out if layer.bias is None else out + numbers(layer.bias)[:, None, None]


def batch_norm(x: Array, layer: Any) -> Array:
    scale = numbers(layer.weight) / np.sqrt(numbers(layer.running_var) + layer.eps)
    shift = numbers(layer.bias) - numbers(layer.running_mean) * scale
    return x * scale[:, None, None] + shift[:, None, None]


def normalised(x: Array, layer: Any, axes: tuple[int, ...]) -> Array:
    """Return layer or group normalisation over ``axes``, then the scale of each channel."""
    mean, variance = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
    scaled = (x - mean) / np.sqrt(variance + layer.eps)
    return scaled * numbers(layer.weight)[:, None, None] + numbers(layer.bias)[:, None, None]


def mean(x: Array) -> Array:
    return x.mean(axis=(2, 3), keepdims=True)


def highest(x: Array) -> Array:
    return x.max(axis=(2, 3), keepdims=True)


def channel(value: Array) -> Gates:
    return [("channel", value[:, :, 0, 0])]


def squeeze(m: Any, x: Array) -> Gates:
    pooled = 0.5 * mean(x) + 0.5 * highest(x) if getattr(m, "add_maxpool", False) else mean(x)
    return channel(sigmoid(conv(relu(conv(pooled, m.fc1)), m.fc2)))


def squeeze_last(m: Any, x: Array) -> Gates:
    hidden = relu(x.mean(axis=(1, 2)) @ numbers(m.fc1.weight).T + numbers(m.fc1.bias))
    return [("channel", sigmoid(hidden @ numbers(m.fc2.weight).T + numbers(m.fc2.bias)))]


def squeeze_efficientnet(m: Any, x: Array) -> Gates:
    return channel(sigmoid(conv(relu(conv(mean(x), m.conv_reduce)), m.conv_expand)))


def effective(m: Any, x: Array) -> Gates:
    return channel(hard_sigmoid(conv(mean(x), m.fc)))


def effective_hgnet(m: Any, x: Array) -> Gates:
    return channel(sigmoid(conv(mean(x), m.conv)))


def eca(m: Any, x: Array, *, mode: str = "constant") -> Gates:
    kernel = numbers(m.conv.weight)[0, 0]
    half = len(kernel) // 2
    padded = np.pad(x.mean(axis=(2, 3)), ((0, 0), (half, half)), mode=mode)  # type: ignore[call-overload]
    taps = [kernel[i] * padded[:, i : i + x.shape[1]] for i in range(len(kernel))]
    return [("channel", sigmoid(sum(taps)))]  # type: ignore[arg-type]


def cbam_channel(m: Any, x: Array) -> Gates:
    mlp = [conv(relu(conv(pooled, m.fc1)), m.fc2) for pooled in (mean(x), highest(x))]
    return channel(sigmoid(mlp[0] + mlp[1]))


def light_channel(m: Any, x: Array) -> Gates:
    return channel(sigmoid(conv(relu(conv(0.5 * mean(x) + 0.5 * highest(x), m.fc1)), m.fc2)))


def cbam_spatial(m: Any, x: Array) -> Gates:
    both = np.stack([x.mean(axis=1), x.max(axis=1)], axis=1)
    return [("spatial", sigmoid(batch_norm(conv(both, m.conv.conv), m.conv.bn))[:, 0])]


def light_spatial(m: Any, x: Array) -> Gates:
    both = (0.5 * x.mean(axis=1) + 0.5 * x.max(axis=1))[:, None]
    return [("spatial", sigmoid(batch_norm(conv(both, m.conv.conv), m.conv.bn))[:, 0])]


def gather_all(m: Any, x: Array) -> Gates:
    del m
    return channel(sigmoid(mean(x)))


def gather_extent(m: Any, x: Array) -> Gates:
    step, high, wide = m.extent, x.shape[2], x.shape[3]
    rows, cols = (-(-side // step) for side in (high, wide))
    pooled = np.zeros((*x.shape[:2], rows, cols))
    for i in range(rows):
        for j in range(cols):
            top, left = max(0, i * step - step + 1), max(0, j * step - step + 1)
            pooled[:, :, i, j] = x[:, :, top : i * step + step, left : j * step + step].mean((2, 3))
    nearest = [np.arange(side) * cells // side for side, cells in ((high, rows), (wide, cols))]
    return [("pointwise", sigmoid(pooled[:, :, nearest[0]][:, :, :, nearest[1]]))]


def global_context(m: Any, x: Array) -> Gates:
    flat = x.reshape(*x.shape[:2], -1)
    attention = softmax(conv(x, m.conv_attn).reshape(len(x), -1), axis=1)
    context = np.einsum("bcp,bp->bc", flat, attention)[:, :, None, None]
    found: Gates = [("distribution", attention.reshape(len(x), *x.shape[2:]))]
    if m.mlp_scale is not None:
        hidden = normalised(conv(context, m.mlp_scale.fc1), m.mlp_scale.norm, (1,))
        found += channel(sigmoid(conv(relu(hidden), m.mlp_scale.fc2)))
    return found


def selective_kernel(m: Any, x: Array) -> Gates:
    parts = np.split(x, len(m.paths), axis=1)
    paths = [
        relu(batch_norm(conv(part, path.conv), path.bn))
        for part, path in zip(parts, m.paths, strict=True)
    ]
    hidden = relu(batch_norm(conv(mean(sum(paths)), m.attn.fc_reduce), m.attn.bn))  # type: ignore[arg-type]
    chosen = conv(hidden, m.attn.fc_select).reshape(len(x), len(paths), -1)
    return [("branch", softmax(chosen, axis=1))]


def split_attention(m: Any, x: Array) -> Gates:
    x = relu(batch_norm(conv(x, m.conv), m.bn0))
    pooled = mean(x.reshape(len(x), m.radix, -1, *x.shape[2:]).sum(axis=1))
    logits = conv(relu(batch_norm(conv(pooled, m.fc1), m.bn1)), m.fc2)
    if m.radix == 1:
        return channel(sigmoid(logits))
    cardinal = m.rsoftmax.cardinality
    grouped = logits.reshape(len(x), cardinal, m.radix, -1).transpose(0, 2, 1, 3)
    return [("branch", softmax(grouped, axis=1).reshape(len(x), m.radix, -1))]


def strips(x: Array) -> tuple[Array, Array]:
    return x.mean(axis=3, keepdims=True), x.mean(axis=2, keepdims=True)


def coordinate(m: Any, x: Array) -> Gates:
    hidden = [hard_swish(batch_norm(conv(strip, m.conv1), m.bn1)) for strip in strips(x)]
    return [("pointwise", sigmoid(conv(hidden[0], m.conv_h)) * sigmoid(conv(hidden[1], m.conv_w)))]


def simple_coordinate(m: Any, x: Array) -> Gates:
    def layer(values: Array, linear: Any) -> Array:
        out = np.einsum("bcij,oc->boij", values, numbers(linear.weight))
        return out + numbers(linear.bias)[:, None, None]

    high, wide = (silu(layer(strip, m.fc1)) for strip in strips(x))
    return [("pointwise", sigmoid(layer(high, m.fc_h) + layer(wide, m.fc_w)))]


def local(m: Any, x: Array) -> Gates:
    high, wide = strips(x)
    high = sigmoid(silu(normalised(conv(high, m.conv_h), m.norm_h, (1, 2, 3))))
    wide = sigmoid(silu(normalised(conv(wide, m.conv_w), m.norm_w, (1, 2, 3))))
    return [("pointwise", high * wide)]


def strip(m: Any, x: Array) -> Gates:
    high, wide = strips(x)
    return [("pointwise", sigmoid(conv(high, m.conv_h) + conv(wide, m.conv_w)))]


def decoupled(m: Any, x: Array) -> Gates:
    halved = x[:, :, : HIGH // 2 * 2, : WIDE // 2 * 2]
    halved = halved.reshape(*x.shape[:2], HIGH // 2, 2, WIDE // 2, 2).mean(axis=(3, 5))
    for layer, norm in zip(m.short_conv[::2], m.short_conv[1::2], strict=True):
        halved = batch_norm(conv(halved, layer), norm)
    rows, cols = (np.arange(side) * (side // 2) // side for side in (HIGH, WIDE))
    return [("pointwise", sigmoid(halved)[:, :, rows][:, :, :, cols])]


def lambda_layer(m: Any, x: Array) -> Gates:
    queries = m.num_heads * m.dim_qk
    keys = conv(x, m.qkv)[:, queries : queries + m.dim_qk].reshape(len(x), m.dim_qk, -1)
    return [("distribution", softmax(keys, axis=2).mean(axis=1).reshape(len(x), *x.shape[2:]))]


def bilinear(m: Any, x: Array) -> Gates:
    """Each position's share in the mean over outputs of ``P x Q``, by what each matrix mixes."""
    size, groups = m.block_size, m.groups
    out = relu(batch_norm(conv(x, m.conv1.conv), m.conv1.bn))
    blocks = out.reshape(len(x), groups, size, HIGH // size, size, WIDE // size)
    lengthwise = blocks.max(axis=(3, 4, 5))[..., None]
    crosswise = blocks.max(axis=(2, 3, 5))[:, :, None]
    p = sigmoid(conv(lengthwise, m.conv_p)).reshape(len(x), groups, size, size)
    q = sigmoid(conv(crosswise, m.conv_q)).reshape(len(x), groups, size, size)
    p, q = p / p.sum(axis=3, keepdims=True), q / q.sum(axis=2, keepdims=True)
    rows = np.repeat(p.mean(axis=2), HIGH // size, axis=2) / (HIGH // size)
    cols = np.repeat(q.mean(axis=3), WIDE // size, axis=2) / (WIDE // size)
    return [("distribution", np.einsum("bgi,bgj->bij", rows, cols) / groups)]


def csatv2_block(m: Any, x: Array) -> Gates:
    """The module's own attention (a transformer block, proven elsewhere), upsampled by hand."""
    seen: list[Array] = []
    handle = m.attn.register_forward_hook(lambda _, __, out: seen.append(numbers(out)))
    import torch

    with torch.no_grad():
        m(torch.from_numpy(x))
    handle.remove()
    (small,) = seen
    places = [np.linspace(0, small.shape[2] - 1, side) for side in (HIGH, WIDE)]
    weights = [np.maximum(0, 1 - np.abs(p[:, None] - np.arange(small.shape[2]))) for p in places]
    return [("spatial", np.einsum("ik,bkl,jl->bij", weights[0], small[:, 0], weights[1]))]


C = CHANNELS
Case = tuple[str, Callable[[], Any], Callable[[Any, Array], Gates]]
CASES: dict[str, Case] = {
    "se": ("squeeze_excite", partial(layers.SEModule, C), squeeze),
    "se_max": ("squeeze_excite", partial(layers.SEModule, C, add_maxpool=True), squeeze),
    "se_senet": ("squeeze_excite", partial(senet.SEModule, C, 2), squeeze),
    "se_torchvision": ("squeeze_excite", partial(misc.SqueezeExcitation, C, 4), squeeze),
    "se_efficientnet": (
        "squeeze_excite", partial(_efficientnet_blocks.SqueezeExcite, C), squeeze_efficientnet,
    ),
    "se_last": ("squeeze_excite_channels_last", partial(SqueezeExciteCl, C), squeeze_last),
    "ese": ("effective_se", partial(layers.EffectiveSEModule, C), effective),
    "ese_hgnet": ("effective_se", partial(hgnet.EseModule, C), effective_hgnet),
    "eca": ("eca", partial(layers.EcaModule, C), eca),
    "ceca": ("eca", partial(layers.CecaModule, C), partial(eca, mode="wrap")),
    "cbam_channel": ("cbam_channel", partial(cbam.ChannelAttn, C, rd_channels=4), cbam_channel),
    "light_channel": (
        "cbam_channel", partial(cbam.LightChannelAttn, C, rd_channels=4), light_channel,
    ),
    "cbam_spatial": ("cbam_spatial", cbam.SpatialAttn, cbam_spatial),
    "light_spatial": ("cbam_spatial", cbam.LightSpatialAttn, light_spatial),
    "ge_all": ("gather_excite", partial(layers.GatherExcite, C, use_mlp=False), gather_all),
    "ge_extent": (
        "gather_excite", partial(layers.GatherExcite, C, use_mlp=False, extent=4), gather_extent,
    ),
    "gc": ("global_context", partial(layers.GlobalContext, C), global_context),
    "gc_add": (
        "global_context", partial(layers.GlobalContext, C, fuse_add=True, fuse_scale=False),
        global_context,
    ),
    "sk": ("selective_kernel", partial(layers.SelectiveKernel, C), selective_kernel),
    "split": ("split_attention", partial(
        layers.SplitAttn, C, norm_layer=nn.BatchNorm2d, groups=2), split_attention),
    "split_1": ("split_attention", partial(
        layers.SplitAttn, C, norm_layer=nn.BatchNorm2d, radix=1), split_attention),
    "coord": ("coordinate_attention", partial(coord_attn.CoordAttn, C), coordinate),
    "simple_coord": (
        "coordinate_attention", partial(coord_attn.SimpleCoordAttn, C), simple_coordinate,
    ),
    "local": ("coordinate_attention", partial(coord_attn.EfficientLocalAttn, C), local),
    "strip": ("coordinate_attention", partial(coord_attn.StripAttn, C), strip),
    "ghost": ("decoupled_attention", partial(ghostnet.GhostModuleV2, C, C), decoupled),
    "lambda": ("lambda_layer", partial(lambda_layer_of.LambdaLayer, C), lambda_layer),
    "bilinear": (
        "bilinear_attention", partial(non_local_attn.BilinearAttnTransform, C, 7, 2), bilinear,
    ),
    "csatv2": ("csatv2", partial(Csatv2Block, C), csatv2_block),
}  # fmt: skip
