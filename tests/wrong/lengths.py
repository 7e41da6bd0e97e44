"""Wrong norms of images, of vectors and of weights; named as in the other files of this folder."""

import numpy as np

from gradverify.loading import catalogue_folder, load

NAMES = (
    "instance_norm", "weight_norm", "l2_normalize", "cosine_similarity", "local_response_norm",
)  # fmt: skip
LAYERS = [load(catalogue_folder() / f"{name}.py")[0] for name in NAMES]
instance_norm, weight_norm, l2_normalize, cosine_similarity, local_response_norm = (
    layer.spec for layer in LAYERS
)
right_instance_norm, right_weight_norm, right_l2, right_cosine, right_response = (
    layer.function for layer in LAYERS
)


@instance_norm.register
def dx_of_instance_norm_as_of_batch_norm(x, gamma, beta, *, eps):
    """Averaged over the batch as well, right for a batch of one."""
    y, pullback = right_instance_norm(x, gamma, beta, eps=eps)
    xc = x - x.mean(axis=(2, 3), keepdims=True)
    sigma = np.sqrt((xc * xc).mean(axis=(2, 3), keepdims=True) + eps)
    xhat = xc / sigma

    def wrong(dy):
        g = gamma[:, None, None] * dy
        along = (g * xhat).mean(axis=(0, 2, 3), keepdims=True)
        dx = (g - g.mean(axis=(0, 2, 3), keepdims=True) - xhat * along) / sigma
        return pullback(dy) | {"x": dx}

    return y, wrong


@instance_norm.register
def dgamma_of_instance_norm_averaged_over_images(x, gamma, beta, *, eps):
    y, pullback = right_instance_norm(x, gamma, beta, eps=eps)
    return y, lambda dy: pullback(dy) | {"gamma": pullback(dy)["gamma"] / len(x)}


@weight_norm.register
def dv_of_weight_norm_without_the_projection(x, v, g, b):
    """The length of v is taken for a constant."""
    y, pullback = right_weight_norm(x, v, g, b)
    scale = g / np.sqrt((v * v).sum(axis=1))
    return y, lambda dy: pullback(dy) | {"v": scale[:, None] * (dy.T @ x)}


@weight_norm.register
def dg_of_weight_norm_along_v_as_it_is(x, v, g, b):
    """Not divided by the length of v, which is 1 in many a test."""
    y, pullback = right_weight_norm(x, v, g, b)
    return y, lambda dy: pullback(dy) | {"g": ((dy.T @ x) * v).sum(axis=1)}


@l2_normalize.register
def dx_of_l2_normalize_with_a_constant_length(x, *, eps):
    y, _ = right_l2(x, eps=eps)
    norm = np.maximum(np.sqrt((x * x).sum(axis=1, keepdims=True)), eps)
    return y, lambda dy: {"x": dy / norm}


@l2_normalize.register
def dx_of_l2_normalize_through_the_clamp(x, *, eps):
    """A vector shorter than eps is projected as well, though its length does not matter."""
    y, _ = right_l2(x, eps=eps)
    norm = np.maximum(np.sqrt((x * x).sum(axis=1, keepdims=True)), eps)
    return y, lambda dy: {"x": (dy - (dy * y).sum(axis=1, keepdims=True) * y) / norm}


@cosine_similarity.register
def dx_of_cosine_similarity_through_the_clamp(x, z, *, eps):
    """What torch 2.13 returns below eps."""
    y, pullback = right_cosine(x, z, eps=eps)
    length = np.sqrt((x * x).sum(axis=1, keepdims=True))
    norm = np.maximum(length, eps)
    zhat = z / np.maximum(np.sqrt((z * z).sum(axis=1, keepdims=True)), eps)

    def wrong(dy):
        return pullback(dy) | {"x": dy[:, None] * (zhat - y[:, None] * x / length) / norm}

    return y, wrong


@cosine_similarity.register
def dz_of_cosine_similarity_with_constant_lengths(x, z, *, eps):
    y, pullback = right_cosine(x, z, eps=eps)
    xhat = x / np.maximum(np.sqrt((x * x).sum(axis=1, keepdims=True)), eps)
    norm = np.maximum(np.sqrt((z * z).sum(axis=1, keepdims=True)), eps)
    return y, lambda dy: pullback(dy) | {"z": dy[:, None] * xhat / norm}


def response(x, K, alpha, bias):
    """Return the divisor before its power."""
    C = x.shape[1]
    near = np.abs(np.subtract.outer(range(C), range(C))) <= K // 2
    return bias + alpha * np.einsum("cd,ndhw->nchw", near.astype(x.dtype), x * x)


@local_response_norm.register
def dx_of_local_response_norm_without_the_cross_channel_terms(x, *, K, alpha, beta, bias):
    y, _ = right_response(x, K=K, alpha=alpha, beta=beta, bias=bias)
    s = response(x, K, alpha, bias)
    return y, lambda dy: {"x": dy * (s**-beta - 2 * alpha * beta * x * y / s)}


@local_response_norm.register
def dx_of_local_response_norm_with_a_constant_divisor(x, *, K, alpha, beta, bias):
    y, _ = right_response(x, K=K, alpha=alpha, beta=beta, bias=bias)
    return y, lambda dy: {"x": dy * response(x, K, alpha, bias) ** -beta}


@local_response_norm.register
def y_of_local_response_norm_averaged_over_the_window(x, *, K, alpha, beta, bias):
    """Consistent: as torch defines it, where the paper's sum is declared."""
    return right_response(x, K=K, alpha=alpha / K, beta=beta, bias=bias)
