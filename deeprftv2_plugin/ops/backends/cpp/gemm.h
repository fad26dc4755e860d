// Matrix products of a block of pixels with weights, and of two blocks, summed over their pixels.
//
// A pixel is a row of vectors. Results are computed in tiles that are kept in registers.
#pragma once

#include "buffer.h"
#include "threads.h"

namespace {

constexpr int BLOCK = 48;  // pixels that are processed together; a multiple of WIDTH and of ROWS
constexpr int ROWS = 6;    // pixels in a tile of pixels by channels
constexpr int SUM_ROWS = WIDTH == 8 ? 6 : 8;  // rows of a tile of channels by channels

// Number of rows in a buffer for `pixels` pixels from which whole tiles and vectors can be read.
inline ptrdiff_t whole_tiles(ptrdiff_t pixels) { return (pixels + BLOCK - 1) / BLOCK * BLOCK; }

// Call body(first, count) for the blocks of this thread's share of the pixels.
template <class F>
inline void for_blocks(ptrdiff_t pixels, F&& body) {
    const Span mine = share_of(pixels, BLOCK);
    for (ptrdiff_t p = mine.begin; p < mine.end; p += BLOCK) body(p, least<ptrdiff_t>(BLOCK, mine.end - p));
}

// out[r][v] = initial[r][v] + sum over k of left[r][k] * right[k][v], for rows r and vectors v. `*_row` are the strides of
// rows, `left_step` is that of the elements of a left row. Never inlined, so that the compiler has all registers for the
// tile.
template <int R, int V>
__attribute__((noinline)) void multiply_tile(const float* left, ptrdiff_t left_row, ptrdiff_t left_step, const float* right,
                                             ptrdiff_t right_row, ptrdiff_t depth, const float* initial,
                                             ptrdiff_t initial_row, float* out, ptrdiff_t out_row) {
    Vec tile[R][V];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) tile[r][v] = load(initial + r * initial_row + v * WIDTH);
    for (ptrdiff_t k = 0; k < depth; ++k, left += left_step, right += right_row) {
        Vec factors[V];
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) factors[v] = load(right + v * WIDTH);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            const Vec x = splat(left[r * left_row]);
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) tile[r][v] += x * factors[v];
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) store(out + r * out_row + v * WIDTH, tile[r][v]);
}

// Weights in the order in which `multiply` reads them: panels of two vectors of outputs, input by input.
class Panels {
  public:
    // value(i, o) is the weight of output o for input i.
    template <class F>
    Panels(Order inputs, Order outputs, F&& value)
        : depth(inputs.parts == 1 ? inputs.channels : inputs.floats()),
          vectors(outputs.vectors()),
          weights_(depth * outputs.floats()),
          bias_(outputs.floats()) {
        for (ptrdiff_t o = 0; o < outputs.size(); ++o) {
            const ptrdiff_t place = outputs.place(o), v = place / WIDTH, panel = v / 2 * 2;
            float* column = weights_ + panel * WIDTH * depth + (place - panel * WIDTH);
            const ptrdiff_t step = width(panel) * WIDTH;
            for (ptrdiff_t i = 0; i < inputs.size(); ++i) column[inputs.place(i) * step] = value(i, o);
        }
    }

    float* bias() { return bias_; }
    const float* bias(ptrdiff_t v) const { return bias_ + v * WIDTH; }
    const float* panel(ptrdiff_t v) const { return weights_ + v * WIDTH * depth; }
    int width(ptrdiff_t v) const { return v + 1 < vectors ? 2 : 1; }

    const ptrdiff_t depth, vectors;

  private:
    Buffer weights_, bias_;
};

template <int V, class F>
inline void multiply_panel(const Panels& weights, ptrdiff_t v, const float* in, ptrdiff_t stride, ptrdiff_t rows,
                           F&& finish) {
    for (ptrdiff_t first = 0; first < rows; first += ROWS) {
        Vec tile[ROWS * V];
        multiply_tile<ROWS, V>(in + first * stride, stride, 1, weights.panel(v), V * WIDTH, weights.depth, weights.bias(v), 0,
                               (float*)tile, V * WIDTH);
        const int count = int(least<ptrdiff_t>(ROWS, rows - first));
        for (int r = 0; r < count; ++r) finish(first + r, v, tile + r * V);
    }
}

// Call finish(r, v, values) for every row r < rows and panel of outputs; `values` points to the vectors v and v + 1. The
// number of vectors must be even.
template <class F>
inline void multiply(const Panels& weights, const float* in, ptrdiff_t stride, ptrdiff_t rows, F&& finish) {
    for (ptrdiff_t v = 0; v < weights.vectors; v += 2) multiply_panel<2>(weights, v, in, stride, rows, finish);
}

// Call finish(r, v, value) for every row r < rows and vector v of the outputs.
template <class F>
inline void multiply_each(const Panels& weights, const float* in, ptrdiff_t stride, ptrdiff_t rows, F&& finish) {
    ptrdiff_t v = 0;
    for (; v + 1 < weights.vectors; v += 2)
        multiply_panel<2>(weights, v, in, stride, rows, [&](ptrdiff_t r, ptrdiff_t, const Vec* values) {
            finish(r, v, values[0]);
            finish(r, v + 1, values[1]);
        });
    if (v < weights.vectors)
        multiply_panel<1>(weights, v, in, stride, rows,
                          [&](ptrdiff_t r, ptrdiff_t, const Vec* values) { finish(r, v, values[0]); });
}

// to = the total of the sums of all threads, which are `step` floats apart
inline void add_threads(const float* all, ptrdiff_t step, ptrdiff_t threads, ptrdiff_t count, float* to) {
    for (ptrdiff_t i = 0; i < count; ++i) {
        float total = 0;
        for (ptrdiff_t t = 0; t < threads; ++t) total += all[t * step + i];
        to[i] = total;
    }
}

// sums[i][j] += sum over pixels p of left[p][i] * right[p][j], for rows of vectors
struct Sums {
    ptrdiff_t left, right;  // vectors
    ptrdiff_t floats() const { return (left * WIDTH + SUM_ROWS - 1) / SUM_ROWS * SUM_ROWS * right * WIDTH; }  // whole tiles

    void add(const float* l, const float* r, ptrdiff_t pixels, float* sums) const {
        for (ptrdiff_t i = 0; i < left * WIDTH; i += SUM_ROWS) {
            ptrdiff_t v = 0;
            for (; v + 1 < right; v += 2) add_tile<2>(l, r, i, v, pixels, sums);
            if (v < right) add_tile<1>(l, r, i, v, pixels, sums);
        }
    }

    template <int V>
    void add_tile(const float* l, const float* r, ptrdiff_t i, ptrdiff_t v, ptrdiff_t pixels, float* sums) const {
        const ptrdiff_t row = right * WIDTH;
        float* out = sums + i * row + v * WIDTH;
        multiply_tile<SUM_ROWS, V>(l + i, 1, left * WIDTH, r + v * WIDTH, row, pixels, out, row, out, row);
    }

    // The matrix (rows, columns), from the sums of all threads, which are `step` floats apart.
    void finish(const float* all, ptrdiff_t step, ptrdiff_t threads, Order rows, Order columns, float* matrix) const {
        for (ptrdiff_t i = 0; i < rows.size(); ++i)
            add_threads(all + rows.place(i) * columns.floats(), step, threads, columns.size(), matrix + i * columns.size());
    }
};

// sums[v] += the sum over pixels of a row of vectors
inline void add_rows(const float* rows, ptrdiff_t vectors, ptrdiff_t pixels, float* sums) {
    for (ptrdiff_t v = 0; v < vectors; ++v) {
        Vec total = load(sums + v * WIDTH);
        for (ptrdiff_t p = 0; p < pixels; ++p) total += load(rows + (p * vectors + v) * WIDTH);
        store(sums + v * WIDTH, total);
    }
}

}  // namespace
