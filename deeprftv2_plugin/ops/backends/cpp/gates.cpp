// Gates on a CPU: GELU, the product of two halves, and the normalisation whose result is gated.
//
// Maps are (rows, channels), one row a pixel, with channels side by side.

#include "vectors.h"

namespace {

struct Span {
    ptrdiff_t begin, end;
};

// A thread's share of `total`.
Span span(ptrdiff_t total) {
#ifdef _OPENMP
    const ptrdiff_t me = omp_get_thread_num(), team = omp_get_num_threads();
    return {total * me / team, total * (me + 1) / team};
#else
    return {0, total};
#endif
}

template <class F>
inline void for_vectors(ptrdiff_t count, F&& body) {
    for (ptrdiff_t i = 0; i < count; i += WIDTH) body(i, int(least<ptrdiff_t>(WIDTH, count - i)));
}

// Mean of a row and the reciprocal of its deviation.
struct Moments {
    float mean, scale;
};

inline Moments moments(const float* x, ptrdiff_t channels, float eps) {
    Vec total{};
    for_vectors(channels, [&](ptrdiff_t i, int lanes) { total += load(x + i, lanes); });
    const float mean = sum(total) / channels;
    Vec squares{};
    for_vectors(channels, [&](ptrdiff_t i, int lanes) {
        Vec d = load(x + i, lanes) - splat(mean);
        if (lanes < WIDTH)
            for (int k = lanes; k < WIDTH; ++k) d[k] = 0;
        squares += d * d;
    });
    return {mean, 1.0f / __builtin_sqrtf(sum(squares) / channels + eps)};
}

}  // namespace

extern "C" {

void gelu_forward(ptrdiff_t threads, ptrdiff_t count, const float* x, float* y) {
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        const Span s = span(count);
        for_vectors(s.end - s.begin, [&](ptrdiff_t i, int lanes) {
            store(y + s.begin + i, gelu(load(x + s.begin + i, lanes)).value, lanes);
        });
    }
}

void gelu_backward(ptrdiff_t threads, ptrdiff_t count, const float* x, const float* dy, float* dx) {
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        const Span s = span(count);
        for_vectors(s.end - s.begin, [&](ptrdiff_t i, int lanes) {
            const ptrdiff_t at = s.begin + i;
            store(dx + at, gelu(load(x + at, lanes)).slope * load(dy + at, lanes), lanes);
        });
    }
}

// y = a * b for rows (a, b).
void gate_forward(ptrdiff_t threads, ptrdiff_t rows, ptrdiff_t channels, const float* x, float* y) {
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        const Span s = span(rows);
        for (ptrdiff_t r = s.begin; r < s.end; ++r) {
            const float *a = x + r * 2 * channels, *b = a + channels;
            for_vectors(channels, [&](ptrdiff_t i, int lanes) {
                store(y + r * channels + i, load(a + i, lanes) * load(b + i, lanes), lanes);
            });
        }
    }
}

void gate_backward(ptrdiff_t threads, ptrdiff_t rows, ptrdiff_t channels, const float* x, const float* dy, float* dx) {
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        const Span s = span(rows);
        for (ptrdiff_t r = s.begin; r < s.end; ++r) {
            const float *a = x + r * 2 * channels, *b = a + channels;
            float *da = dx + r * 2 * channels, *db = da + channels;
            for_vectors(channels, [&](ptrdiff_t i, int lanes) {
                const Vec g = load(dy + r * channels + i, lanes);
                store(da + i, g * load(b + i, lanes), lanes);
                store(db + i, g * load(a + i, lanes), lanes);
            });
        }
    }
}

// y = (normalised x * weight + bias) * gelu(gate)
void gated_norm_forward(ptrdiff_t threads, ptrdiff_t rows, ptrdiff_t channels, const float* x, const float* gate,
                        const float* weight, const float* bias, float eps, float* y) {
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        const Span s = span(rows);
        for (ptrdiff_t r = s.begin; r < s.end; ++r) {
            const float *row = x + r * channels, *g = gate + r * channels;
            const Moments m = moments(row, channels, eps);
            for_vectors(channels, [&](ptrdiff_t i, int lanes) {
                const Vec normal = (load(row + i, lanes) - splat(m.mean)) * splat(m.scale);
                const Vec value = normal * load(weight + i, lanes) + load(bias + i, lanes);
                store(y + r * channels + i, value * gelu(load(g + i, lanes)).value, lanes);
            });
        }
    }
}

// dweight and dbias are (threads, channels), zero at the beginning, and added up by the caller.
void gated_norm_backward(ptrdiff_t threads, ptrdiff_t rows, ptrdiff_t channels, const float* x, const float* gate,
                         const float* weight, const float* bias, float eps, const float* dy, float* dx, float* dgate,
                         float* dweight, float* dbias) {
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        const Span s = span(rows);
#ifdef _OPENMP
        const ptrdiff_t mine = omp_get_thread_num() * channels;
#else
        const ptrdiff_t mine = 0;
#endif
        for (ptrdiff_t r = s.begin; r < s.end; ++r) {
            const float *row = x + r * channels, *g = gate + r * channels, *dout = dy + r * channels;
            float *out = dx + r * channels, *dg = dgate + r * channels;
            const Moments m = moments(row, channels, eps);
            Vec along{}, across{};
            for_vectors(channels, [&](ptrdiff_t i, int lanes) {
                const Vec normal = (load(row + i, lanes) - splat(m.mean)) * splat(m.scale);
                const Vec w = load(weight + i, lanes), d = load(dout + i, lanes);
                const Gelu opening = gelu(load(g + i, lanes));
                store(dg + i, d * (normal * w + load(bias + i, lanes)) * opening.slope, lanes);
                const Vec by_value = d * opening.value;
                store(dweight + mine + i, load(dweight + mine + i, lanes) + by_value * normal, lanes);
                store(dbias + mine + i, load(dbias + mine + i, lanes) + by_value, lanes);
                store(out + i, by_value * w, lanes);
                along += by_value * w * normal;
                across += by_value * w;
            });
            const Vec a = splat(sum(along) / channels), b = splat(sum(across) / channels);
            for_vectors(channels, [&](ptrdiff_t i, int lanes) {
                const Vec normal = (load(row + i, lanes) - splat(m.mean)) * splat(m.scale);
                store(out + i, (load(out + i, lanes) - b - normal * a) * splat(m.scale), lanes);
            });
        }
    }
}

}  // extern "C"
