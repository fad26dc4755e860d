// The normalization of pixels over their channels, and its gradient.
#pragma once

#include "buffer.h"

namespace {

// The number of channel vectors if it is known at compile time, or 0. For few channels, the loop itself costs as much as its
// body.
template <int VECTORS>
constexpr ptrdiff_t known(ptrdiff_t channels) {
    return VECTORS ? VECTORS * WIDTH : channels;
}

template <int VECTORS>
__attribute__((noinline)) void normalize_rows(const float* x, ptrdiff_t count, ptrdiff_t some_channels, float eps, float* out,
                                              float* scales) {
    const ptrdiff_t channels = known<VECTORS>(some_channels), stride = Order{channels, 1}.floats();
    const float share = 1.0f / channels;
    Vec totals[WIDTH] = {};
    for (ptrdiff_t first = 0; first < count; first += WIDTH, x += WIDTH * channels, out += WIDTH * stride) {
        const int rows = int(least<ptrdiff_t>(WIDTH, count - first));
        float means[WIDTH], variances[WIDTH];
        for (int r = 0; r < rows; ++r) {
            Vec total{};
            for_vectors(channels, [&](ptrdiff_t i, int lanes) { total += load(x + r * channels + i, lanes); });
            totals[r] = total;
        }
        store(means, sums(totals) * splat(share));
        for (int r = 0; r < rows; ++r) {
            const Vec mean = splat(means[r]);
            Vec total{};
            for_vectors(channels, [&](ptrdiff_t i, int lanes) {
                Vec d = load(x + r * channels + i, lanes) - mean;
                if (lanes < WIDTH) d = first_lanes(d, lanes);
                total += d * d;
            });
            totals[r] = total;
        }
        store(variances, sums(totals) * splat(share) + splat(eps));
        for (int r = 0; r < WIDTH; ++r) scales[first + r] = 1.0f / __builtin_sqrtf(variances[r]);
        for (int r = 0; r < rows; ++r) {
            const Vec mean = splat(means[r]), scale = splat(scales[first + r]);
            for_vectors(channels, [&](ptrdiff_t i, int lanes) {
                store(out + r * stride + i, (load(x + r * channels + i, lanes) - mean) * scale);
            });
        }
    }
}

// Normalize `count` rows of x, `channels` floats each, into rows of whole vectors, whose padding is undefined. `scales` are the
// reciprocals of the standard deviations, with space for whole vectors. The sums of several rows are computed at once, since
// the sum over the lanes of a single vector would take most of the time.
inline void normalize(const float* x, ptrdiff_t count, ptrdiff_t channels, float eps, float* out, float* scales) {
    if (channels == WIDTH) normalize_rows<1>(x, count, channels, eps, out, scales);
    else if (channels == 2 * WIDTH) normalize_rows<2>(x, count, channels, eps, out, scales);
    else normalize_rows<0>(x, count, channels, eps, out, scales);
}

template <int VECTORS>
__attribute__((noinline)) void rows_backward(const float* d, const float* normal, const float* scales, ptrdiff_t count,
                                             ptrdiff_t some_channels, const float* add, float* dx) {
    const ptrdiff_t channels = known<VECTORS>(some_channels), stride = Order{channels, 1}.floats();
    const float share = 1.0f / channels;
    Vec along[WIDTH] = {}, across[WIDTH] = {};
    for (ptrdiff_t first = 0; first < count; first += WIDTH) {
        const int rows = int(least<ptrdiff_t>(WIDTH, count - first));
        float means[WIDTH], slopes[WIDTH];
        for (int r = 0; r < rows; ++r) {
            Vec product{}, total{};
            for (ptrdiff_t i = (first + r) * stride; i < (first + r + 1) * stride; i += WIDTH) {
                const Vec g = load(d + i);
                total += g;
                product += g * load(normal + i);
            }
            across[r] = total;
            along[r] = product;
        }
        store(means, sums(across) * splat(share));
        store(slopes, sums(along) * splat(share));
        for (int r = 0; r < rows; ++r) {
            const ptrdiff_t row = first + r;
            const Vec mean = splat(means[r]), slope = splat(slopes[r]), scale = splat(scales[row]);
            for_vectors(channels, [&](ptrdiff_t i, int lanes) {
                const Vec inner = load(d + row * stride + i) - mean - slope * load(normal + row * stride + i);
                Vec out = inner * scale;
                if (add) out += load(add + row * channels + i, lanes);
                store(dx + row * channels + i, out, lanes);
            });
        }
    }
}

// The gradient of `normalize` with respect to x, given its result and the gradient d of the result, both in rows of whole
// vectors. Adds the rows of `add`, in the layout of dx, unless it is null.
inline void normalize_backward(const float* d, const float* normal, const float* scales, ptrdiff_t count,
                               ptrdiff_t channels, const float* add, float* dx) {
    if (channels == WIDTH) rows_backward<1>(d, normal, scales, count, channels, add, dx);
    else if (channels == 2 * WIDTH) rows_backward<2>(d, normal, scales, count, channels, add, dx);
    else rows_backward<0>(d, normal, scales, count, channels, add, dx);
}

}  // namespace
