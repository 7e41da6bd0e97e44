"""Wrong convolutions, gates and rearrangements of images; named as elsewhere in this folder."""

import numpy as np

from gradverify.loading import catalogue_folder, load

NAMES = (
    "conv1d", "depthwise_conv2d", "transposed_conv2d", "global_avg_pool", "squeeze_excite",
    "upsample_nearest", "pixel_shuffle", "channel_shuffle", "rotary_embedding", "bilinear",
)  # fmt: skip
LAYERS = {name: load(catalogue_folder() / f"{name}.py")[0] for name in NAMES}
RIGHT = {name: layer.function for name, layer in LAYERS.items()}
(
    conv1d, depthwise_conv2d, transposed_conv2d, global_avg_pool, squeeze_excite,
    upsample_nearest, pixel_shuffle, channel_shuffle, rotary_embedding, bilinear,
) = (layer.spec for layer in LAYERS.values())  # fmt: skip


@conv1d.register
def dx_of_conv1d_without_the_last_tap(x, w, b, *, S, P, D):
    y, pullback = RIGHT["conv1d"](x, w, b, S=S, P=P, D=D)
    cut = w.copy()
    cut[:, :, -1] = 0
    _, other = RIGHT["conv1d"](x, cut, b, S=S, P=P, D=D)
    return y, lambda dy: pullback(dy) | {"x": other(dy)["x"]}


@conv1d.register
def dw_of_conv1d_flipped(x, w, b, *, S, P, D):
    y, pullback = RIGHT["conv1d"](x, w, b, S=S, P=P, D=D)
    return y, lambda dy: pullback(dy) | {"w": pullback(dy)["w"][:, :, ::-1].copy()}


@depthwise_conv2d.register
def dx_of_depthwise_conv2d_with_the_first_filter(x, w, b, *, S, P):
    y, pullback = RIGHT["depthwise_conv2d"](x, w, b, S=S, P=P)
    _, other = RIGHT["depthwise_conv2d"](x, w[:1].repeat(len(w), axis=0), b, S=S, P=P)
    return y, lambda dy: pullback(dy) | {"x": other(dy)["x"]}


@depthwise_conv2d.register
def dw_of_depthwise_conv2d_summed_over_channels(x, w, b, *, S, P):
    y, pullback = RIGHT["depthwise_conv2d"](x, w, b, S=S, P=P)

    def wrong(dy):
        grads = pullback(dy)
        return grads | {"w": grads["w"].sum(axis=0, keepdims=True).repeat(len(w), axis=0)}

    return y, wrong


@transposed_conv2d.register
def dx_of_transposed_conv2d_flipped(x, w, b, *, S, P):
    """As if the backward of a transposed convolution turned its filter around."""
    y, pullback = RIGHT["transposed_conv2d"](x, w, b, S=S, P=P)
    _, other = RIGHT["transposed_conv2d"](x, w[:, :, ::-1, ::-1], b, S=S, P=P)
    return y, lambda dy: pullback(dy) | {"x": other(dy)["x"]}


@transposed_conv2d.register
def y_of_transposed_conv2d_cropped_off_by_one(x, w, b, *, S, P):
    """Consistent: where P rows are cut off, one too few at the top and one too many below."""
    full, pullback = RIGHT["transposed_conv2d"](x, w, b, S=S, P=0)
    top, left = max(P - 1, 0), P
    inner = np.s_[:, :, top : top + full.shape[2] - 2 * P, left : full.shape[3] - P]

    def wrong(dy):
        dfull = np.zeros_like(full)
        dfull[inner] = dy
        return pullback(dfull)

    return full[inner], wrong


@transposed_conv2d.register
def db_of_transposed_conv2d_with_what_is_cut_off(x, w, b, *, S, P):
    """The bias is counted once for each stamp and not once for each pixel."""
    y, pullback = RIGHT["transposed_conv2d"](x, w, b, S=S, P=P)
    stamps = x.shape[2] * x.shape[3] / (y.shape[2] * y.shape[3])
    return y, lambda dy: pullback(dy) | {"b": pullback(dy)["b"] * stamps}


@global_avg_pool.register
def dx_of_global_avg_pool_divided_by_the_height(x):
    y, pullback = RIGHT["global_avg_pool"](x)
    return y, lambda dy: {"x": pullback(dy)["x"] * x.shape[3]}


@squeeze_excite.register
def dx_of_squeeze_excite_with_constant_gates(x, w1, b1, w2, b2):
    y, pullback = RIGHT["squeeze_excite"](x, w1, b1, w2, b2)
    a = np.maximum(x.mean(axis=(2, 3)) @ w1.T + b1, 0)
    s = 0.5 + 0.5 * np.tanh(0.5 * (a @ w2.T + b2))
    return y, lambda dy: pullback(dy) | {"x": s[:, :, None, None] * dy}


@squeeze_excite.register
def dw1_of_squeeze_excite_where_it_is_off(x, w1, b1, w2, b2):
    """The units that the rectifier turned off learn as well."""
    y, pullback = RIGHT["squeeze_excite"](x, w1, b1, w2, b2)
    z = x.mean(axis=(2, 3))
    a = np.maximum(z @ w1.T + b1, 0)
    s = 0.5 + 0.5 * np.tanh(0.5 * (a @ w2.T + b2))

    def wrong(dy):
        ds = (dy * x).sum(axis=(2, 3)) * s * (1 - s)
        return pullback(dy) | {"w1": (ds @ w2).T @ z}

    return y, wrong


@upsample_nearest.register
def dx_of_upsample_nearest_from_one_of_the_copies(x, *, S):
    y, _ = RIGHT["upsample_nearest"](x, S=S)
    return y, lambda dy: {"x": dy[:, :, ::S, ::S].copy()}


@upsample_nearest.register
def dx_of_upsample_nearest_averaged_over_the_copies(x, *, S):
    y, pullback = RIGHT["upsample_nearest"](x, S=S)
    return y, lambda dy: {"x": pullback(dy)["x"] / S**2}


@pixel_shuffle.register
def dx_of_pixel_shuffle_with_rows_for_columns(x, *, R):
    y, pullback = RIGHT["pixel_shuffle"](x, R=R)
    N, _, H, W = x.shape

    def wrong(dy):
        parts = pullback(dy)["x"].reshape(N, -1, R, R, H, W)
        return {"x": parts.swapaxes(2, 3).reshape(x.shape)}

    return y, wrong


@pixel_shuffle.register
def y_of_pixel_shuffle_with_channels_innermost(x, *, R):
    """Consistent: the order of depth-to-space, where channels count fastest."""
    N, CRR, H, W = x.shape
    turned = x.reshape(N, R * R, CRR // R**2, H, W).swapaxes(1, 2).reshape(x.shape)
    y, pullback = RIGHT["pixel_shuffle"](turned, R=R)

    def wrong(dy):
        parts = pullback(dy)["x"].reshape(N, CRR // R**2, R * R, H, W)
        return {"x": parts.swapaxes(1, 2).reshape(x.shape)}

    return y, wrong


@channel_shuffle.register
def dx_of_channel_shuffle_shuffled_again(x, *, G):
    """Right where as many groups are there as channels in each."""
    y, _ = RIGHT["channel_shuffle"](x, G=G)
    return y, lambda dy: {"x": RIGHT["channel_shuffle"](dy, G=G)[0]}


@rotary_embedding.register
def dx_of_rotary_embedding_turned_the_same_way(x, *, base):
    """The sign of the sine is not flipped."""
    y, _ = RIGHT["rotary_embedding"](x, base=base)
    return y, lambda dy: {"x": RIGHT["rotary_embedding"](dy, base=base)[0]}


@rotary_embedding.register
def y_of_rotary_embedding_by_halves(x, *, base):
    """Consistent: feature d goes with d+D, where neighbours are declared."""
    order = np.arange(x.shape[2]).reshape(2, -1).T.ravel()
    back = np.argsort(order)
    y, pullback = RIGHT["rotary_embedding"](x[:, :, order], base=base)
    return y[:, :, back], lambda dy: {"x": pullback(dy[:, :, order])["x"][:, :, back]}


@bilinear.register
def dw_of_bilinear_as_of_z_and_x(x, z, w, b):
    """The outer product the other way round."""
    y, pullback = RIGHT["bilinear"](x, z, w, b)
    return y, lambda dy: pullback(dy) | {"w": np.einsum("nk,ne,nd->ked", dy, z, x).reshape(w.shape)}


@bilinear.register
def dz_of_bilinear_with_the_first_output(x, z, w, b):
    y, pullback = RIGHT["bilinear"](x, z, w, b)

    def wrong(dy):
        first = dy.copy()
        first[:, 1:] = 0
        return pullback(dy) | {"z": pullback(first)["z"]}

    return y, wrong
