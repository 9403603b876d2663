"""The same EM iteration as others would write it: vectorised SciPy in float64, and PyTorch in float32.

Each peer is a function that takes images, parameters as NumPy arrays and `hard`, and returns a function of no arguments
that runs one M-step and one E-step and returns (template, background, noise variance, total log evidence) as NumPy
arrays, so that answers can be compared before times are.
"""

from __future__ import annotations

import numpy as np


def positions(images, template):
    return images.shape[1] - template.shape[0] + 1, images.shape[2] - template.shape[1] + 1


def scipy_float64(images, template, background, noise_scale, prior):
    """What a careful person writes first: fftconvolve, cumulative sums, whole arrays."""
    from scipy.signal import fftconvolve
    from scipy.special import logsumexp

    images = images.astype(np.float64)
    (height, width), (h, w) = images.shape[1:], template.shape

    def sums(stack):
        total = np.pad(stack.cumsum(1).cumsum(2), [(0, 0), (1, 0), (1, 0)])
        return total[:, h:, w:] - total[:, :-h, w:] - total[:, h:, :-w] + total[:, :-h, :-w]

    def cover(maps):
        total = np.pad(maps.cumsum(1).cumsum(2), [(0, 0), (1, 0), (1, 0)])
        low_i, high_i = np.maximum(0, np.arange(height) + 1 - h), np.minimum(np.arange(height), height - h) + 1
        low_j, high_j = np.maximum(0, np.arange(width) + 1 - w), np.minimum(np.arange(width), width - w) + 1
        upper, lower = total[:, high_i], total[:, low_i]
        return upper[:, :, high_j] - upper[:, :, low_j] - lower[:, :, high_j] + lower[:, :, low_j]

    def e_step(template, background, noise_scale, prior):
        cross = fftconvolve(images, template[None, ::-1, ::-1], mode="valid", axes=(1, 2))
        squares = (template**2).sum() - 2 * cross + sums(background * (2 * images - background))
        joint = -squares / (2 * noise_scale**2) + np.log(prior)
        total = logsumexp(joint, axis=(1, 2), keepdims=True)
        outside = ((images - background) ** 2).sum(axis=(1, 2)) / (2 * noise_scale**2)
        evidence = total[:, 0, 0] - outside - height * width / 2 * np.log(2 * np.pi * noise_scale**2)
        return np.exp(joint - total), evidence.sum()

    def m_step(probs):
        template = fftconvolve(images, probs[:, ::-1, ::-1], mode="valid", axes=(1, 2)).mean(axis=0)
        seen = 1 - cover(probs)
        background = (images * seen).sum(axis=0) / seen.sum(axis=0)
        cross = fftconvolve(images, template[None, ::-1, ::-1], mode="valid", axes=(1, 2))
        squares = (template**2).sum() - 2 * cross + sums(background * (2 * images - background))
        variance = (((images - background) ** 2).sum() + (probs * squares).sum()) / images.size
        return template, background, np.sqrt(variance), probs.mean(axis=0)

    probs, _ = e_step(template, background, noise_scale, prior)

    def iterate():
        found = m_step(probs)
        return (*found[:2], found[2] ** 2, e_step(*found)[1])

    return iterate


def torch_float32(images, template, background, noise_scale, prior, threads=1):
    """A careful PyTorch version: centred, the images' transform kept, window sums along one axis after the other."""
    import torch

    torch.set_num_threads(threads)
    offset = float(images.mean())
    stack = torch.tensor(images, dtype=torch.float32) - offset
    (height, width), (h, w) = images.shape[1:], template.shape
    rows, columns = positions(images, template)
    spectra = torch.fft.rfft2(stack)
    square_sum = float((stack.double() ** 2).sum())

    def transform(array):
        return torch.fft.rfft2(array, s=(height, width))

    def sums(array):
        for axis, length in ((1, h), (2, w)):
            total = torch.cumsum(array, dim=axis)
            zero = torch.zeros_like(total.narrow(axis, 0, 1))
            total = torch.cat([zero, total], dim=axis)
            size = total.shape[axis] - length
            array = total.narrow(axis, length, size) - total.narrow(axis, 0, size)
        return array

    def cover(maps):
        return sums(torch.nn.functional.pad(maps, (w - 1, w - 1, h - 1, h - 1)))

    def e_step(template, background, variance, prior):
        cross = torch.fft.irfft2(spectra * transform(template).conj(), s=(height, width))[:, :rows, :columns]
        squares = (template**2).sum() - 2 * cross + sums(background * (2 * stack - background))
        joint = (-squares / (2 * variance) + torch.log(prior)).flatten(1)
        total = torch.logsumexp(joint, dim=1)
        outside = ((stack - background) ** 2).sum(dim=(1, 2)) / (2 * variance)
        evidence = total - outside - height * width / 2 * np.log(2 * np.pi * float(variance))
        return torch.exp(joint - total[:, None]).reshape(-1, rows, columns), float(evidence.double().sum())

    def m_step(probs):
        correlation = torch.fft.irfft2((spectra * transform(probs).conj()).sum(dim=0), s=(height, width))
        template = correlation[:h, :w] / len(images)
        seen = 1 - cover(probs)
        visible_sum, visible = (stack * seen).sum(dim=0), seen.sum(dim=0)
        background = visible_sum / visible
        squares = square_sum - float((background * visible_sum).sum()) - len(images) * float((template**2).sum())
        return template, background, torch.tensor(squares / images.size), probs.mean(dim=0)

    def tensor(array):
        return torch.as_tensor(array, dtype=torch.float32)

    with torch.no_grad():
        probs, _ = e_step(
            tensor(template) - offset, tensor(background) - offset, tensor(noise_scale) ** 2, tensor(prior)
        )

    def iterate():
        with torch.no_grad():
            found = m_step(probs)
            evidence = e_step(*found)[1]
        return found[0].numpy() + offset, found[1].numpy() + offset, float(found[2]), evidence

    return iterate
