"""Trajectories of a camera or an object during an exposure and the blur kernels that they cause."""

import math

import numpy as np


def camera_shake(length: float, anxiety: float, rng: np.random.Generator, samples: int = 2000) -> np.ndarray:
    r"""Return a random path of the camera during one exposure: a Markov process of position x and velocity v.

    The speed is constant. At every sample the velocity changes by

    .. math:: \Delta v = j + a \, (g \, n - c \, x) \, L / (T - 1), \qquad n \sim \text{complex normal}

    and is scaled back to its norm. The factor g in [0, 10] is the strength of the tremor, and c in [0, 0.7] that of the
    pull back to the starting point. The impulsive jerk j is zero at most samples. With a probability in [0, 3 a], it is
    twice the velocity, rotated by 180 degrees plus or minus up to half a radian. g, c and the probability are drawn
    once per path.

    Args:
        length: Length L of the path in pixels, greater than 0.
        anxiety: Factor a of tremor and jerks, at least 0: 0 is a straight line, 0.005 a shaky hand.
        rng: Random generator.
        samples: Number T of points, equally spaced in time.

    Returns:
        Array (samples, 2) of rows and columns in pixels, with mean zero. All points are within length / 2 of the mean.

    References:
        Boracchi and Foi, "Modeling the Performance of Image Restoration from Motion Blur", IEEE TIP 21(8), 2012.
    """
    pull, tremor, jerk_rate = rng.uniform(0, (0.7, 10.0, 3.0))
    speed = length / (samples - 1)
    jerks = rng.random(samples - 1) < jerk_rate * anxiety
    jerk_factors = jerks * 2 * np.exp(1j * (math.pi + rng.uniform(-0.5, 0.5, samples - 1)))
    tremors = tremor * (rng.standard_normal((samples - 1, 2)) @ (1, 1j))
    velocity = speed * complex(np.exp(2j * math.pi * rng.random()))
    path = [0j]
    # For one step at a time, Python's complex numbers are several times faster than NumPy's.
    for jerk, shake in zip(jerk_factors.tolist(), tremors.tolist(), strict=True):
        velocity += jerk * velocity + anxiety * (shake - pull * path[-1]) * speed
        velocity *= speed / abs(velocity)
        path.append(path[-1] + velocity)
    centered = np.array(path) - np.mean(path)
    return np.stack([centered.imag, centered.real], axis=1)


def arc(length: float, bend: float, direction: float, samples: int = 2000) -> np.ndarray:
    r"""Return the path of steady motion along an arc of a circle: a straight line for a bend of zero.

    With :math:`t \in [-1/2, 1/2]`, length L, bend b and direction d, the points in the complex plane are

    .. math:: z_t = L \, e^{i d} \int_0^t e^{i b s} \, ds = L \, t \, e^{i (d + b t / 2)} \frac{\sin (b t / 2)}{b t / 2}

    A straight line has a root-mean-square radius of :math:`L / \sqrt{12}`.

    Args:
        length: Length of the path in pixels, at least 0.
        bend: Angle in radians through which the direction of the motion turns.
        direction: Direction in the middle of the exposure, in radians.
        samples: Number of points, equally spaced in time.

    Returns:
        Array (samples, 2) of rows and columns in pixels, with mean zero. All points are within length / 2 of the mean.
    """
    time = np.linspace(-0.5, 0.5, samples)
    points = length * time * np.sinc(bend * time / (2 * math.pi)) * np.exp(1j * (direction + bend * time / 2))
    points -= points.mean()
    return np.stack([points.imag, points.real], axis=1)


def camera_roll(extent: float, anxiety: float, rng: np.random.Generator, samples: int = 2000) -> np.ndarray:
    """Return random angles of the camera about its optical axis during one exposure: a coordinate of `camera_shake`.

    Args:
        extent: Difference of the maximum and the minimum angle, in any unit.
        anxiety, rng, samples: See `camera_shake`.

    Returns:
        Array (samples,) with mean zero.
    """
    swing = max(camera_shake(1, anxiety, rng, samples).T, key=np.ptp)
    return swing * (extent / np.ptp(swing))


def kernel_size(max_length: float) -> int:
    """Return the odd side of a kernel that contains every path of up to `max_length` pixels."""
    return 2 * math.ceil(max_length / 2) + 1


def rasterize(path: np.ndarray, size: int) -> np.ndarray:
    """Return the blur kernel of a path. Each point spreads its light over four pixels with bilinear weights.

    Bilinear weights preserve the centroid. A path with mean zero therefore gives a kernel whose centroid is its center
    pixel, and the blurry image is not shifted relative to the sharp one.

    Args:
        path: Array (samples, 2) of rows and columns in pixels, relative to the center of the kernel.
        size: Odd side of the kernel.

    Returns:
        Array (size, size) of float32, nonnegative, with sum one.

    Raises:
        ValueError: The size is even, or the path leaves the kernel.
    """
    if size % 2 == 0:
        raise ValueError(f'the side of a kernel must be odd, got {size}')
    points = path + size // 2
    if points.min() < -1e-6 or points.max() > size - 1 + 1e-6:
        reach = np.abs(path).max()
        raise ValueError(f'a path that reaches {reach:.1f} pixels from the center leaves its kernel of {size} pixels')
    corner = np.floor(points).astype(int)
    fraction = points - corner
    # Points exactly on the edge have neighbors of weight zero in a border of one pixel.
    kernel = np.zeros((size + 2, size + 2))
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weight = np.abs(1 - down - fraction[:, 0]) * np.abs(1 - right - fraction[:, 1])
        np.add.at(kernel, (corner[:, 0] + 1 + down, corner[:, 1] + 1 + right), weight)
    kernel = kernel[1:-1, 1:-1]
    return (kernel / kernel.sum()).astype(np.float32)


def kernel_grid(path: np.ndarray, angles: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    r"""Return the blur kernels, on a grid over the image, of a camera that moves along a path and rolls.

    Small rotations about the two other axes move the image like a path in its plane. With roll, the relative motion at
    the offset (r, c) from the center of the image is

    .. math:: u_t(r, c) = x_t + \theta_t \, (c, -r)

    for angles so small that they equal their sine. A roll about another point equals a roll about the center plus a
    path. The blurry image is the mean over t of the moved images, as in Whyte et al. Here it is built from kernels at
    grid points (`convolution.convolve_varying`). The grid is so fine that u changes by at most one pixel from point to
    point. All kernels have their centroid at the center pixel.

    Args:
        path: Array (samples, 2) of rows and columns in pixels, with mean zero.
        angles: Array (samples,) in radians, with mean zero. Positive angles are clockwise on the screen.
        shape: Height and width of the blurry image.

    Returns:
        Array (rows, columns, k, k) of float32, each kernel with sum one. rows, columns and k are odd.

    References:
        Whyte et al., "Non-uniform Deblurring for Shaken Images", IJCV 98(2), 2012.
    """
    turn = np.abs(angles).max()
    ends = [(length - 1) / 2 for length in shape]
    # an even number of steps, so that one of the points is the center of the image
    rows, columns = (np.linspace(-end, end, 2 * math.ceil(end * turn) + 1) if turn else [0] for end in ends)
    reach = np.abs(path).max(axis=1) + np.abs(angles) * max(ends)
    size = kernel_size(2 * reach.max())
    turned = angles[:, None]
    return np.array([[rasterize(path + turned * (column, -row), size) for column in columns] for row in rows])


def random_kernel(
    rng: np.random.Generator, length: tuple[float, float] = (4, 10), anxiety: tuple[float, float] = (0, 0.003)
) -> np.ndarray:
    """Return the kernel of a random camera shake with path length (pixels) and anxiety uniform in the given ranges.

    Returns:
        Array (k, k) of float32 with k = kernel_size(length[1]), see `rasterize`.
    """
    path = camera_shake(rng.uniform(*length), rng.uniform(*anxiety), rng)
    return rasterize(path, kernel_size(length[1]))
