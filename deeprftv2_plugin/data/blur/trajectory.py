"""Camera shake: a random trajectory of the camera, and the blur kernels that it draws on the sensor."""

import math

import numpy as np


def camera_shake(length: float, anxiety: float, rng: np.random.Generator, samples: int = 2000) -> np.ndarray:
    r"""Random path of the camera during one exposure: a Markov process of position x and velocity v.

    The speed is constant. At every sample the velocity changes by

    .. math:: \Delta v = j + a \, (g \, n - c \, x) \, L / (T - 1), \qquad n \sim \text{complex normal}

    and is scaled back to its norm. The tremor g, from 0 to 10, shakes the hand; c, from 0 to 0.7, pulls it
    back to where it started. The impulsive jerk j is zero at most samples; with a probability from 0 to 3 a
    it is twice the velocity, turned by 180 degrees give or take half a radian. g, c and the probability are
    drawn once per path.

    Boracchi and Foi, "Modeling the Performance of Image Restoration from Motion Blur", IEEE Transactions on
    Image Processing 21(8), 2012.

    Args:
        length: Length L of the path in pixels, more than 0.
        anxiety: Factor a of tremor and jerks, at least 0: 0 is a straight line, 0.005 a shaky hand.
        rng: The only source of randomness.
        samples: Number T of points, equally spaced in time.

    Returns:
        Array (samples, 2) of rows and columns in pixels, with mean zero. No point is farther than length / 2
        from it.
    """
    pull, tremor, jerk_rate = rng.uniform(0, (0.7, 10.0, 3.0))
    speed = length / (samples - 1)
    jerks = rng.random(samples - 1) < jerk_rate * anxiety
    jerk_factors = jerks * 2 * np.exp(1j * (math.pi + rng.uniform(-0.5, 0.5, samples - 1)))
    tremors = tremor * (rng.standard_normal((samples - 1, 2)) @ (1, 1j))
    velocity = speed * complex(np.exp(2j * math.pi * rng.random()))
    path = [0j]
    # Python's own complex numbers: for one step at a time they are several times faster than numpy's.
    for jerk, shake in zip(jerk_factors.tolist(), tremors.tolist(), strict=True):
        velocity += jerk * velocity + anxiety * (shake - pull * path[-1]) * speed
        velocity *= speed / abs(velocity)
        path.append(path[-1] + velocity)
    centred = np.array(path) - np.mean(path)
    return np.stack([centred.imag, centred.real], axis=1)


def camera_roll(extent: float, anxiety: float, rng: np.random.Generator, samples: int = 2000) -> np.ndarray:
    """Random angle of the camera about its optical axis during one exposure: one coordinate of `camera_shake`.

    Args:
        extent: Difference of the greatest and the least angle, in any unit.
        anxiety, rng, samples: See `camera_shake`.

    Returns:
        Array (samples,) with mean zero.
    """
    swing = max(camera_shake(1, anxiety, rng, samples).T, key=np.ptp)
    return swing * (extent / np.ptp(swing))


def kernel_size(max_length: float) -> int:
    """Side, odd, of the kernel that holds every path up to `max_length` pixels."""
    return 2 * math.ceil(max_length / 2) + 1


def rasterise(path: np.ndarray, size: int) -> np.ndarray:
    """Blur kernel of a path: every point spreads its light over its four pixels with bilinear weights.

    Bilinear weights keep the centroid. A path with mean zero therefore gives a kernel whose centroid is its
    middle pixel, and a blurry picture that is not shifted against the sharp one.

    Args:
        path: Array (samples, 2) of rows and columns in pixels, relative to the middle of the kernel.
        size: Side of the kernel, odd.

    Returns:
        Array (size, size) of float32, nowhere negative, with sum one.

    Raises:
        ValueError: The size is even, or the path leaves the kernel.
    """
    if size % 2 == 0:
        raise ValueError(f'a kernel with a middle pixel has an odd side, got {size}')
    points = path + size // 2
    if points.min() < -1e-6 or points.max() > size - 1 + 1e-6:
        reach = np.abs(path).max()
        raise ValueError(f'a path that goes {reach:.1f} pixels off leaves its kernel of {size} pixels')
    corner = np.floor(points).astype(int)
    fraction = points - corner
    # One more pixel all around takes the neighbours of points on the very border, whose weight is zero.
    kernel = np.zeros((size + 2, size + 2))
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weight = np.abs(1 - down - fraction[:, 0]) * np.abs(1 - right - fraction[:, 1])
        np.add.at(kernel, (corner[:, 0] + 1 + down, corner[:, 1] + 1 + right), weight)
    kernel = kernel[1:-1, 1:-1]
    return (kernel / kernel.sum()).astype(np.float32)


def kernel_grid(path: np.ndarray, angles: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    r"""Blur kernels of a camera that moves along a path and rolls, on a grid of points over the picture.

    Small turns about the two other axes move the picture like a path in its plane. With the roll, a point at
    the offset (r, c) from the middle of the picture moves, seen from where it ends up, by

    .. math:: u_t(r, c) = x_t + \theta_t \, (c, -r)

    for angles so small that they equal their sine. A roll about another point than the middle is one about the
    middle and a path. The blurry picture is the mean over t of pictures moved so, as in Whyte et al.,
    "Non-uniform Deblurring for Shaken Images", International Journal of Computer Vision 98(2), 2012. Here it is
    made of the kernels at the points of a grid (`convolution.convolve_varying`), which is so fine that from
    one point to the next u changes by at most a pixel. All kernels have their centroid in their middle pixel.

    Args:
        path: Array (samples, 2) of rows and columns in pixels, with mean zero.
        angles: Array (samples,) in radians, with mean zero; positive ones turn clockwise on the screen.
        shape: Height and width of the blurry picture.

    Returns:
        Array (rows, columns, k, k) of float32, each kernel with sum one; rows, columns and k are odd.
    """
    turn = np.abs(angles).max()
    ends = [(length - 1) / 2 for length in shape]
    # an even number of steps, so that one of the points is the middle of the picture
    rows, columns = (np.linspace(-end, end, 2 * math.ceil(end * turn) + 1) if turn else [0] for end in ends)
    reach = np.abs(path).max(axis=1) + np.abs(angles) * max(ends)
    size = kernel_size(2 * reach.max())
    turned = angles[:, None]
    return np.array([[rasterise(path + turned * (column, -row), size) for column in columns] for row in rows])


def random_kernel(
    rng: np.random.Generator, length: tuple[float, float] = (4, 10), anxiety: tuple[float, float] = (0, 0.003)
) -> np.ndarray:
    """Kernel of a random camera shake, whose path length (pixels) and anxiety are uniform in the two ranges.

    Returns:
        Array (k, k) of float32 with k = kernel_size(length[1]); see `rasterise`.
    """
    path = camera_shake(rng.uniform(*length), rng.uniform(*anxiety), rng)
    return rasterise(path, kernel_size(length[1]))
