// A normalized map times the GELU of a gate, projected and added to a residual, in one pass over the pixels. The gate is the
// result of a linear layer on the normalized pixels of another map.

#include "normed_linear.h"

extern "C" struct GateProjection {
    ptrdiff_t threads, pixels, channels, inner;
    const float *y;                                // (pixels, inner)
    const float *x;                                // (pixels, channels)
    const float *norm_weight, *norm_bias;          // (channels,)
    const float *gate_weight;                      // (inner, channels)
    const float *out_norm_weight, *out_norm_bias;  // (inner,)
    const float *out_weight;                       // (channels, inner)
    float eps, out_eps;
};

extern "C" struct GateProjectionGradients {
    const float *dz;  // (pixels, channels)
    float *dy, *dx, *dnorm_weight, *dnorm_bias, *dgate_weight, *dout_norm_weight, *dout_norm_bias, *dout_weight;
};

namespace {

NormedLinear gate_of(const GateProjection& g) {
    return {g.channels, {g.inner, 1}, g.norm_weight, g.norm_bias, g.gate_weight, nullptr, g.eps};
}

}  // namespace

extern "C" {

void gate_projection_forward(const GateProjection* arguments, const float* residual, float* z) {
    const GateProjection g = *arguments;
    const NormedLinear gate = gate_of(g);
    const Order in = gate.in(), inner = gate.out;
    const Panels open = gate.forward_panels();
    const Panels project(inner, in, [&](ptrdiff_t k, ptrdiff_t c) { return g.out_weight[c * g.inner + k]; });
#pragma omp parallel num_threads(g.threads) if (g.threads > 1)
    {
        Buffer normal(BLOCK * in.floats()), gated(BLOCK * inner.floats());
        Buffer norm_weight(inner.floats()), norm_bias(inner.floats());
        pack(inner, g.out_norm_weight, norm_weight);
        pack(inner, g.out_norm_bias, norm_bias);
        float scales[BLOCK];
        for_blocks(g.pixels, [&](ptrdiff_t first, ptrdiff_t count) {
            normalize(g.x + first * g.channels, count, g.channels, g.eps, normal, scales);
            normalize(g.y + first * g.inner, count, g.inner, g.out_eps, gated, scales);
            multiply_each(open, normal, in.floats(), count, [&](ptrdiff_t r, ptrdiff_t v, Vec value) {
                float* at = gated + r * inner.floats() + v * WIDTH;
                const Vec normed = load(at) * load(norm_weight + v * WIDTH) + load(norm_bias + v * WIDTH);
                store(at, normed * gelu(value).value);
            });
            multiply_each(project, gated, inner.floats(), count, [&](ptrdiff_t r, ptrdiff_t v, Vec value) {
                const ptrdiff_t at = (first + r) * g.channels + v * WIDTH;
                store(z + at, load(residual + at, in.lanes(v)) + value, in.lanes(v));
            });
        });
    }
}

void gate_projection_backward(const GateProjection* arguments, const GateProjectionGradients* gradients) {
    const GateProjection g = *arguments;
    const GateProjectionGradients d = *gradients;
    const NormedLinear gate = gate_of(g);
    const Order in = gate.in(), inner = gate.out;
    const Panels open = gate.forward_panels(), close = gate.backward_panels();
    const Panels project(in, inner, [&](ptrdiff_t c, ptrdiff_t k) { return g.out_weight[c * g.inner + k]; });
    const Sums projection{in.vectors(), inner.vectors()};
    // the sums of a thread: of the projection, of weight and bias of the normalization before it, then of the gate
    const ptrdiff_t weight_at = projection.floats(), bias_at = weight_at + inner.floats();
    const ptrdiff_t gate_at = bias_at + inner.floats(), step = gate_at + gate.sums_floats();
    Buffer all(g.threads * step);
#pragma omp parallel num_threads(g.threads) if (g.threads > 1)
    {
        Buffer x_normal(BLOCK * in.floats()), y_normal(BLOCK * inner.floats()), dz(BLOCK * in.floats());
        Buffer gates(BLOCK * inner.floats()), gated(BLOCK * inner.floats()), dgated(BLOCK * inner.floats());
        Buffer norm_weight(inner.floats()), norm_bias(inner.floats());
        pack(inner, g.out_norm_weight, norm_weight);
        pack(inner, g.out_norm_bias, norm_bias);
        float x_scales[BLOCK], y_scales[BLOCK];
        float* mine = all + thread_index() * step;
        for_blocks(g.pixels, [&](ptrdiff_t first, ptrdiff_t count) {
            normalize(g.x + first * g.channels, count, g.channels, g.eps, x_normal, x_scales);
            normalize(g.y + first * g.inner, count, g.inner, g.out_eps, y_normal, y_scales);
            for (ptrdiff_t r = 0; r < count; ++r)
                pack(in, d.dz + (first + r) * g.channels, dz + r * in.floats());
            multiply_each(open, x_normal, in.floats(), count, [&](ptrdiff_t r, ptrdiff_t v, Vec value) {
                store(gates + r * inner.floats() + v * WIDTH, value);
            });
            multiply_each(project, dz, in.floats(), count, [&](ptrdiff_t r, ptrdiff_t v, Vec value) {
                store(dgated + r * inner.floats() + v * WIDTH, value);
            });
            for (ptrdiff_t i = 0; i < inner.floats(); i += WIDTH) {
                const Vec w = load(norm_weight + i), b = load(norm_bias + i);
                Vec along = load(mine + weight_at + i), across = load(mine + bias_at + i);
                for (ptrdiff_t at = i; at < count * inner.floats(); at += inner.floats()) {
                    const Vec normal = load(y_normal + at), normed = normal * w + b, by_product = load(dgated + at);
                    const Gelu opening = gelu(load(gates + at));
                    const Vec by_normed = by_product * opening.value;
                    store(gated + at, normed * opening.value);
                    store(gates + at, by_product * normed * opening.slope);
                    store(dgated + at, by_normed * w);
                    along += by_normed * normal;
                    across += by_normed;
                }
                store(mine + weight_at + i, along);
                store(mine + bias_at + i, across);
            }
            projection.add(dz, gated, count, mine);
            normalize_backward(dgated, y_normal, y_scales, count, g.inner, nullptr, d.dy + first * g.inner);
            gate.add_sums(gates, x_normal, count, mine + gate_at);
            multiply_each(close, gates, inner.floats(), count, [&](ptrdiff_t r, ptrdiff_t v, Vec value) {
                store(dz + r * in.floats() + v * WIDTH, value);
            });
            normalize_backward(dz, x_normal, x_scales, count, g.channels, nullptr, d.dx + first * g.channels);
        });
    }
    projection.finish(all, step, g.threads, {g.channels, 1}, {g.inner, 1}, d.dout_weight);
    add_threads(all + weight_at, step, g.threads, g.inner, d.dout_norm_weight);
    add_threads(all + bias_at, step, g.threads, g.inner, d.dout_norm_bias);
    gate.finish(all + gate_at, step, g.threads, d.dnorm_weight, d.dnorm_bias, d.dgate_weight, nullptr);
}

}  // extern "C"
