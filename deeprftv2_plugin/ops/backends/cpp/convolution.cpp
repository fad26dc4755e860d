// 3x3 depthwise convolutions with the gate or GELU after them, and with the expansion of normalized pixels before them.
//
// A thread processes its rows from top to bottom and keeps only the last three rows of the convolved map in a ring buffer. If
// rows are too long for the cache, they are processed in tiles of columns.

#include "depthwise.h"
#include "normed_linear.h"

extern "C" struct Convolution {
    ptrdiff_t threads, images, height, width;
    ptrdiff_t channels, out_channels;      // of x and of y
    const float *x;                        // (images, height, width, channels)
    const float *norm_weight, *norm_bias;  // (channels,), or null to convolve x itself
    const float *expand_weight, *expand_bias;
    const float *weight, *bias;            // (convolved channels, 3, 3), (convolved channels,)
    float eps;
};

extern "C" struct ConvolutionGradients {
    const float *dy;  // like y
    float *dx, *dnorm_weight, *dnorm_bias, *dexpand_weight, *dexpand_bias, *dweight, *dbias;
};

namespace {

struct GateOf {
    static constexpr int PARTS = 2;
    static Vec value(const Vec* z) { return z[0] * z[1]; }
    static void gradient(const Vec* z, Vec dy, Vec* dz) {
        dz[0] = dy * z[1];
        dz[1] = dy * z[0];
    }
};

struct GeluOf {
    static constexpr int PARTS = 1;
    static Vec value(const Vec* z) { return gelu(z[0]).value; }
    static void gradient(const Vec* z, Vec dy, Vec* dz) { dz[0] = dy * gelu(z[0]).slope; }
};

constexpr ptrdiff_t CACHE = 128 * 1024;  // maximum number of floats in the rows of a tile: half a megabyte of the L2 cache

// The number of columns of a tile, each of which takes `floats`. Tiles have about equal widths.
ptrdiff_t tile_width(ptrdiff_t width, ptrdiff_t floats) {
    const ptrdiff_t most = floats * 32 < CACHE ? CACHE / floats : 32, tiles = (width + most - 1) / most;
    return (width + tiles - 1) / tiles;
}

// The last three rows of a map, `columns` pixels each.
class Ring {
  public:
    Ring(ptrdiff_t columns, ptrdiff_t pixel) : size_(columns * pixel), memory_(3 * size_) {}
    float* row(ptrdiff_t r) const { return memory_ + (r + 3) % 3 * size_; }
    ptrdiff_t size() const { return size_; }

    // Pointers to pixels of the rows r - 1 to r + 1.
    struct Rows {
        const float* at[3];
    };
    Rows around(ptrdiff_t r, ptrdiff_t offset) const {
        return {{row(r - 1) + offset, row(r) + offset, row(r + 1) + offset}};
    }

  private:
    ptrdiff_t size_;
    Buffer memory_;
};

// The convolved map, computed from x row by row. Each thread has its own.
class Source {
  public:
    Source(const Convolution& c, const NormedLinear& linear, const Panels& expand)
        : c_(c),
          linear_(linear),
          expand_(expand),
          normal_(BLOCK * linear.in().floats()),
          dnormal_(BLOCK * linear.in().floats()) {}

    // Compute the columns [from, to) of a row, with zeros outside of the map.
    void read(ptrdiff_t image, ptrdiff_t row, ptrdiff_t from, ptrdiff_t to, float* out) {
        const ptrdiff_t pixel = linear_.out.floats();
        if (row < 0 || row >= c_.height) {
            memset(out, 0, (to - from) * pixel * sizeof(float));
            return;
        }
        for (; from < 0; ++from, out += pixel) memset(out, 0, pixel * sizeof(float));
        for (; to > c_.width; --to) memset(out + (to - 1 - from) * pixel, 0, pixel * sizeof(float));
        for (; from < to; from += BLOCK, out += BLOCK * pixel) {
            const ptrdiff_t count = least<ptrdiff_t>(BLOCK, to - from);
            const float* x = c_.x + at(image, row, from);
            if (c_.norm_weight) {
                normalize(x, count, c_.channels, c_.eps, normal_, scales_);
                multiply_each(expand_, normal_, linear_.in().floats(), count, [&](ptrdiff_t r, ptrdiff_t v, Vec value) {
                    store(out + r * pixel + v * WIDTH, value);
                });
            } else {
                for (ptrdiff_t p = 0; p < count; ++p) pack(linear_.out, x + p * c_.channels, out + p * pixel);
            }
        }
    }

    // The gradient of the columns [from, to) of a row of x, given that of the convolved map. Adds to the sums of the expansion.
    void write_gradient(ptrdiff_t image, ptrdiff_t row, ptrdiff_t from, ptrdiff_t to, const float* d, const Panels& contract,
                        float* dx, float* sums) {
        const ptrdiff_t pixel = linear_.out.floats(), width = linear_.in().floats();
        for (; from < to; from += BLOCK, d += BLOCK * pixel) {
            const ptrdiff_t count = least<ptrdiff_t>(BLOCK, to - from);
            float* out = dx + at(image, row, from);
            if (c_.norm_weight) {
                normalize(c_.x + at(image, row, from), count, c_.channels, c_.eps, normal_, scales_);
                linear_.add_sums(d, normal_, count, sums);
                multiply_each(contract, d, pixel, count, [&](ptrdiff_t r, ptrdiff_t v, Vec value) {
                    store(dnormal_ + r * width + v * WIDTH, value);
                });
                normalize_backward(dnormal_, normal_, scales_, count, c_.channels, nullptr, out);
            } else {
                for (ptrdiff_t p = 0; p < count; ++p) unpack(linear_.out, d + p * pixel, out + p * c_.channels);
            }
        }
    }

  private:
    ptrdiff_t at(ptrdiff_t image, ptrdiff_t row, ptrdiff_t column) const {
        return ((image * c_.height + row) * c_.width + column) * c_.channels;
    }

    const Convolution& c_;
    const NormedLinear& linear_;
    const Panels& expand_;
    Buffer normal_, dnormal_;
    float scales_[BLOCK];
};

NormedLinear expansion_of(const Convolution& c, Order order) {
    const ptrdiff_t channels = c.norm_weight ? c.channels : 0;
    return {channels, order, c.norm_weight, c.norm_bias, c.expand_weight, c.expand_bias, c.eps};
}

// Call body(image, top, bottom, left, right) for the tiles of this thread's rows.
template <class F>
void for_tiles(const Convolution& c, ptrdiff_t columns, F&& body) {
    const Span mine = share_of(c.images * c.height);
    for (ptrdiff_t row = mine.begin; row < mine.end;) {
        const ptrdiff_t image = row / c.height, top = row % c.height;
        const ptrdiff_t bottom = least(c.height, top + mine.end - row);
        for (ptrdiff_t left = 0; left < c.width; left += columns)
            body(image, top, bottom, left, least(c.width, left + columns));
        row += bottom - top;
    }
}

template <class Activation>
void forward(const Convolution& c, float* y) {
    const Order order{c.out_channels, Activation::PARTS}, out{c.out_channels, 1};
    const NormedLinear linear = expansion_of(c, order);
    const Panels expand = linear.forward_panels();
    const Buffer taps = pack_taps(order, c.weight, c.bias);
    const ptrdiff_t columns = tile_width(c.width, 3 * order.floats());
#pragma omp parallel num_threads(c.threads) if (c.threads > 1)
    {
        Source source(c, linear, expand);
        const Ring ring(columns + 2 + COLUMNS, order.floats());
        for_tiles(c, columns, [&](ptrdiff_t image, ptrdiff_t top, ptrdiff_t bottom, ptrdiff_t left, ptrdiff_t right) {
            for (ptrdiff_t r = top - 1; r <= bottom; ++r) {
                source.read(image, r, left - 1, right + 1, ring.row(r));
                if (r <= top) continue;
                float* row = y + ((image * c.height + r - 1) * c.width + left) * c.out_channels;
                const Ring::Rows rows = ring.around(r - 1, 0);
                convolve<Activation::PARTS>(
                    rows.at, taps, order.vectors(), right - left, [&](ptrdiff_t column, ptrdiff_t v, const Vec* z) {
                        const ptrdiff_t i = v / Activation::PARTS;
                        store(row + column * c.out_channels + i * WIDTH, Activation::value(z), out.lanes(i));
                    });
            }
        });
    }
}

template <class Activation>
void backward(const Convolution& c, const ConvolutionGradients& g) {
    constexpr int PARTS = Activation::PARTS;
    const Order order{c.out_channels, PARTS}, out{c.out_channels, 1};
    const NormedLinear linear = expansion_of(c, order);
    const Panels expand = linear.forward_panels(), contract = linear.backward_panels();
    const Buffer taps = pack_taps(order, c.weight, c.bias), flipped = flip_taps(taps, order.vectors());
    const ptrdiff_t pixel = order.floats(), vectors = order.vectors();
    const ptrdiff_t columns = tile_width(c.width, 7 * pixel);
    // the sums of a thread: first of the taps, then of the expansion
    const ptrdiff_t linear_at = vectors * TAPS * WIDTH, step = linear_at + linear.sums_floats();
    Buffer all(c.threads * step);
#pragma omp parallel num_threads(c.threads) if (c.threads > 1)
    {
        Source source(c, linear, expand);
        const Ring ring(columns + 4 + COLUMNS, pixel), gradients(columns + 2 + COLUMNS, pixel);
        Buffer back(whole_tiles(columns) * pixel);
        float* mine = all + thread_index() * step;
        for_tiles(c, columns, [&](ptrdiff_t image, ptrdiff_t top, ptrdiff_t bottom, ptrdiff_t left, ptrdiff_t right) {
            // the columns whose gradient is needed, from the first pixel of `gradients` on
            const ptrdiff_t from = left > 0 ? 0 : 1, to = right - left + (right < c.width ? 2 : 1);
            for (ptrdiff_t r = top - 2; r <= bottom + 1; ++r) {
                source.read(image, r, left - 2, right + 2, ring.row(r));
                const ptrdiff_t row = r - 1;  // the row whose result can be computed now
                if (row < top - 1) continue;
                float* dz = gradients.row(row);
                if (row < 0 || row >= c.height) {
                    memset(dz, 0, gradients.size() * sizeof(float));
                } else {
                    if (left == 0) memset(dz, 0, pixel * sizeof(float));
                    if (right == c.width) memset(dz + to * pixel, 0, pixel * sizeof(float));
                    const float* dy = g.dy + ((image * c.height + row) * c.width + left - 1) * c.out_channels;
                    const auto store_gradient = [&](ptrdiff_t column, ptrdiff_t v, const Vec* z) {
                        const ptrdiff_t i = v / PARTS;
                        const Vec d = load(dy + (from + column) * c.out_channels + i * WIDTH, out.lanes(i));
                        Vec results[PARTS];
                        Activation::gradient(z, d, results);
                        for (int part = 0; part < PARTS; ++part)
                            store(dz + (from + column) * pixel + (v + part) * WIDTH, results[part]);
                    };
                    convolve<PARTS>(ring.around(row, from * pixel).at, taps, vectors, to - from, store_gradient);
                    if (row >= top && row < bottom)
                        add_taps(ring.around(row, pixel).at, dz + pixel, vectors, right - left, mine);
                }
                if (row <= top) continue;
                convolve<PARTS>(gradients.around(row - 1, 0).at, flipped, vectors, right - left,
                                [&](ptrdiff_t column, ptrdiff_t v, const Vec* z) {
                                    for (int part = 0; part < PARTS; ++part)
                                        store(back + column * pixel + (v + part) * WIDTH, z[part]);
                                });
                source.write_gradient(image, row - 1, left, right, back, contract, g.dx, mine + linear_at);
            }
        });
    }
    unpack_taps(order, all, step, c.threads, g.dweight, g.dbias);
    if (c.norm_weight)
        linear.finish(all + linear_at, step, c.threads, g.dnorm_weight, g.dnorm_bias, g.dexpand_weight, g.dexpand_bias);
}

}  // namespace

extern "C" {

void gated_convolution_forward(const Convolution* c, float* y) { forward<GateOf>(*c, y); }
void gelu_convolution_forward(const Convolution* c, float* y) { forward<GeluOf>(*c, y); }
void gated_convolution_backward(const Convolution* c, const ConvolutionGradients* g) { backward<GateOf>(*c, *g); }
void gelu_convolution_backward(const Convolution* c, const ConvolutionGradients* g) { backward<GeluOf>(*c, *g); }

}  // extern "C"
