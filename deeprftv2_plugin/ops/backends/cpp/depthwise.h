// A 3x3 depthwise convolution along a row of pixels, and the gradient with respect to its weights.
//
// Rows consist of pixels of `vectors` vectors. Each of these has ten vectors of taps: nine weights, row by row, and the bias.
#pragma once

#include "buffer.h"

namespace {

constexpr int TAPS = 10;
constexpr int COLUMNS = 4;  // computed together; rows have space for a multiple of them and two more pixels

inline Buffer pack_taps(Order order, const float* weight, const float* bias) {
    Buffer taps(order.floats() * TAPS);
    for (ptrdiff_t c = 0; c < order.size(); ++c) {
        const ptrdiff_t place = order.place(c);
        float* column = taps + place / WIDTH * TAPS * WIDTH + place % WIDTH;
        for (int t = 0; t < 9; ++t) column[t * WIDTH] = weight[c * 9 + t];
        column[9 * WIDTH] = bias[c];
    }
    return taps;
}

// The taps that compute the gradient with respect to the input of the convolution.
inline Buffer flip_taps(const float* taps, ptrdiff_t vectors) {
    Buffer flipped(vectors * TAPS * WIDTH);
    for (ptrdiff_t v = 0; v < vectors; ++v)
        for (int t = 0; t < 9; ++t) store(flipped + (v * TAPS + 8 - t) * WIDTH, load(taps + (v * TAPS + t) * WIDTH));
    return flipped;
}

// The convolution of one vector of every pixel along `columns` pixels, a multiple of COLUMNS. The rows begin one pixel to
// the left of the first one. Never inlined, so that the compiler has all registers for the weights.
__attribute__((noinline)) void convolve_vector(const float* above, const float* here, const float* below, ptrdiff_t pixel,
                                               const float* taps, ptrdiff_t columns, float* out, ptrdiff_t out_step) {
    Vec weights[TAPS];
#pragma GCC unroll 10
    for (int t = 0; t < TAPS; ++t) weights[t] = load(taps + t * WIDTH);
    for (ptrdiff_t c = 0; c < columns; c += COLUMNS) {
        Vec z[COLUMNS];
#pragma GCC unroll 4
        for (int k = 0; k < COLUMNS; ++k) z[k] = weights[9];
#pragma GCC unroll 3
        for (int x = 0; x < 3; ++x)
#pragma GCC unroll 4
            for (int k = 0; k < COLUMNS; ++k) {
                z[k] += weights[x] * load(above + (k + x) * pixel);
                z[k] += weights[3 + x] * load(here + (k + x) * pixel);
                z[k] += weights[6 + x] * load(below + (k + x) * pixel);
            }
#pragma GCC unroll 4
        for (int k = 0; k < COLUMNS; ++k) store(out + k * out_step, z[k]);
        above += COLUMNS * pixel;
        here += COLUMNS * pixel;
        below += COLUMNS * pixel;
        out += COLUMNS * out_step;
    }
}

// Call finish(c, v, z) for every column c and every PARTS vectors z, which start at vector v. The first pixel of each of the
// three rows is to the left of the first column.
template <int PARTS, class F>
inline void convolve(const float* const* rows, const float* taps, ptrdiff_t vectors, ptrdiff_t columns, F&& finish) {
    constexpr ptrdiff_t MOST = 12 * COLUMNS;
    Vec z[MOST * PARTS];
    for (ptrdiff_t v = 0; v < vectors; v += PARTS)
        for (ptrdiff_t first = 0; first < columns; first += MOST) {
            const ptrdiff_t count = least(MOST, columns - first);
            for (int part = 0; part < PARTS; ++part) {
                const ptrdiff_t at = (first * vectors + v + part) * WIDTH;
                convolve_vector(rows[0] + at, rows[1] + at, rows[2] + at, vectors * WIDTH, taps + (v + part) * TAPS * WIDTH,
                                (count + COLUMNS - 1) / COLUMNS * COLUMNS, (float*)(z + part), PARTS * WIDTH);
            }
            for (ptrdiff_t c = 0; c < count; ++c) finish(first + c, v, z + c * PARTS);
        }
}

// Add the contribution of a row to the gradient of the taps, given the gradient of the result of `convolve`.
inline void add_taps(const float* const* rows, const float* dz, ptrdiff_t vectors, ptrdiff_t columns, float* sums) {
    const ptrdiff_t pixel = vectors * WIDTH;
    for (ptrdiff_t v = 0; v < vectors; ++v) {
        Vec totals[TAPS];
        for (int t = 0; t < TAPS; ++t) totals[t] = load(sums + (v * TAPS + t) * WIDTH);
        for (ptrdiff_t c = 0; c < columns; ++c) {
            const ptrdiff_t at = c * pixel + v * WIDTH;
            const Vec d = load(dz + at);
#pragma GCC unroll 3
            for (int y = 0; y < 3; ++y)
#pragma GCC unroll 3
                for (int x = 0; x < 3; ++x) totals[y * 3 + x] += d * load(rows[y] + at + x * pixel);
            totals[9] += d;
        }
        for (int t = 0; t < TAPS; ++t) store(sums + (v * TAPS + t) * WIDTH, totals[t]);
    }
}

// The gradients of weights and biases, from the sums of all threads, which are `step` floats apart.
inline void unpack_taps(Order order, const float* all, ptrdiff_t step, ptrdiff_t threads, float* dweight, float* dbias) {
    for (ptrdiff_t c = 0; c < order.size(); ++c) {
        const ptrdiff_t place = order.place(c), column = place / WIDTH * TAPS * WIDTH + place % WIDTH;
        for (int t = 0; t < TAPS; ++t) {
            float total = 0;
            for (ptrdiff_t i = 0; i < threads; ++i) total += all[i * step + column + t * WIDTH];
            (t < 9 ? dweight[c * 9 + t] : dbias[c]) = total;
        }
    }
}

}  // namespace
