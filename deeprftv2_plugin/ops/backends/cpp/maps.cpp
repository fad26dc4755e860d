// Operations on single maps: normalizations and the product of two halves.
//
// Maps are (pixels, channels).

#include "norm.h"
#include "threads.h"

namespace {

constexpr ptrdiff_t PIXELS = 64;  // number of pixels that are normalized together; a multiple of WIDTH

template <class F>
void for_blocks(ptrdiff_t pixels, F&& body) {
    const Span mine = share_of(pixels, PIXELS);
    for (ptrdiff_t p = mine.begin; p < mine.end; p += PIXELS) body(p, least(PIXELS, mine.end - p));
}

}  // namespace

extern "C" {

// y = a * b for pixels (a, b).
void gate_forward(ptrdiff_t threads, ptrdiff_t pixels, ptrdiff_t channels, const float* x, float* y) {
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        const Span mine = share_of(pixels);
        for (ptrdiff_t p = mine.begin; p < mine.end; ++p) {
            const float *a = x + p * 2 * channels, *b = a + channels;
            for_vectors(channels, [&](ptrdiff_t i, int lanes) {
                store(y + p * channels + i, load(a + i, lanes) * load(b + i, lanes), lanes);
            });
        }
    }
}

void gate_backward(ptrdiff_t threads, ptrdiff_t pixels, ptrdiff_t channels, const float* dy, const float* x, float* dx) {
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        const Span mine = share_of(pixels);
        for (ptrdiff_t p = mine.begin; p < mine.end; ++p) {
            const float *a = x + p * 2 * channels, *b = a + channels;
            float *da = dx + p * 2 * channels, *db = da + channels;
            for_vectors(channels, [&](ptrdiff_t i, int lanes) {
                const Vec g = load(dy + p * channels + i, lanes);
                store(da + i, g * load(b + i, lanes), lanes);
                store(db + i, g * load(a + i, lanes), lanes);
            });
        }
    }
}

// y = (normalized x * weight + bias) * gelu(gate); without the last factor if gate is null.
void norm_forward(ptrdiff_t threads, ptrdiff_t pixels, ptrdiff_t channels, const float* x, const float* gate,
                  const float* weight, const float* bias, float eps, float* y) {
    const ptrdiff_t stride = Order{channels, 1}.floats();
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        Buffer normal(PIXELS * stride);
        float scales[PIXELS];
        for_blocks(pixels, [&](ptrdiff_t first, ptrdiff_t count) {
            normalize(x + first * channels, count, channels, eps, normal, scales);
            for (ptrdiff_t r = 0; r < count; ++r)
                for_vectors(channels, [&](ptrdiff_t i, int lanes) {
                    const ptrdiff_t at = (first + r) * channels + i;
                    Vec value = load(normal + r * stride + i) * load(weight + i, lanes) + load(bias + i, lanes);
                    if (gate) value = value * gelu(load(gate + at, lanes)).value;
                    store(y + at, value, lanes);
                });
        });
    }
}

// dgate, like gate and bias, is null without a gate.
void norm_backward(ptrdiff_t threads, ptrdiff_t pixels, ptrdiff_t channels, const float* dy, const float* x,
                   const float* gate, const float* weight, const float* bias, float eps, float* dx, float* dgate,
                   float* dweight, float* dbias) {
    const ptrdiff_t stride = Order{channels, 1}.floats();
    Buffer all(threads * 2 * stride);  // for every thread the sums for dweight, then those for dbias
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        Buffer normal(PIXELS * stride), dnormal(PIXELS * stride);
        float scales[PIXELS];
        float* mine = all + thread_index() * 2 * stride;
        for_blocks(pixels, [&](ptrdiff_t first, ptrdiff_t count) {
            normalize(x + first * channels, count, channels, eps, normal, scales);
            for_vectors(channels, [&](ptrdiff_t i, int lanes) {
                const Vec w = load(weight + i, lanes), b = gate ? load(bias + i, lanes) : Vec{};
                Vec along = load(mine + i), across = load(mine + stride + i);
                for (ptrdiff_t r = 0; r < count; ++r) {
                    const ptrdiff_t at = (first + r) * channels + i;
                    const Vec n = load(normal + r * stride + i);
                    Vec d = load(dy + at, lanes);
                    if (gate) {
                        const Gelu opening = gelu(load(gate + at, lanes));
                        store(dgate + at, d * (n * w + b) * opening.slope, lanes);
                        d = d * opening.value;
                    }
                    along += d * n;
                    across += d;
                    store(dnormal + r * stride + i, d * w);
                }
                store(mine + i, along);
                store(mine + stride + i, across);
            });
            normalize_backward(dnormal, normal, scales, count, channels, nullptr, dx + first * channels);
        });
    }
    for (ptrdiff_t c = 0; c < channels; ++c) {
        dweight[c] = dbias[c] = 0;
        for (ptrdiff_t t = 0; t < threads; ++t) {
            dweight[c] += all[t * 2 * stride + c];
            dbias[c] += all[(t * 2 + 1) * stride + c];
        }
    }
}

}  // extern "C"
