// The gated pointwise network with its normalization and residual, in one pass over the pixels.

#include "normed_linear.h"

extern "C" struct FeedForward {
    ptrdiff_t threads, pixels, channels, hidden;
    const float *x;                                // (pixels, channels)
    const float *norm_weight, *norm_bias;          // (channels,)
    const float *expand_weight, *expand_bias;      // (2 hidden, channels), (2 hidden,)
    const float *project_weight, *project_bias;    // (channels, hidden), (channels,)
    float eps;
};

extern "C" struct FeedForwardGradients {
    const float *dy;  // like x
    float *dx, *dnorm_weight, *dnorm_bias, *dexpand_weight, *dexpand_bias, *dproject_weight, *dproject_bias;
};

namespace {

NormedLinear expansion_of(const FeedForward& f) {
    return {f.channels, {f.hidden, 2}, f.norm_weight, f.norm_bias, f.expand_weight, f.expand_bias, f.eps};
}

}  // namespace

extern "C" {

void feed_forward_forward(const FeedForward* arguments, float* y) {
    const FeedForward f = *arguments;
    const NormedLinear expansion = expansion_of(f);
    const Order in{f.channels, 1}, gated{f.hidden, 1};
    const Panels expand = expansion.forward_panels();
    Panels project(gated, in, [&](ptrdiff_t h, ptrdiff_t c) { return f.project_weight[c * f.hidden + h]; });
    pack(in, f.project_bias, project.bias());
#pragma omp parallel num_threads(f.threads) if (f.threads > 1)
    {
        Buffer normal(BLOCK * in.floats()), gates(BLOCK * gated.floats());
        float scales[BLOCK];
        for_blocks(f.pixels, [&](ptrdiff_t first, ptrdiff_t count) {
            const float* x = f.x + first * f.channels;
            normalize(x, count, f.channels, f.eps, normal, scales);
            multiply(expand, normal, in.floats(), count, [&](ptrdiff_t r, ptrdiff_t v, const Vec* values) {
                store(gates + r * gated.floats() + v / 2 * WIDTH, values[0] * values[1]);
            });
            multiply_each(project, gates, gated.floats(), count, [&](ptrdiff_t r, ptrdiff_t v, Vec value) {
                const ptrdiff_t at = r * f.channels + v * WIDTH;
                store(y + first * f.channels + at, load(x + at, in.lanes(v)) + value, in.lanes(v));
            });
        });
    }
}

void feed_forward_backward(const FeedForward* arguments, const FeedForwardGradients* gradients) {
    const FeedForward f = *arguments;
    const FeedForwardGradients g = *gradients;
    const NormedLinear expansion = expansion_of(f);
    const Order in{f.channels, 1}, gated{f.hidden, 1}, hidden = expansion.out;
    const Panels expand = expansion.forward_panels(), contract = expansion.backward_panels();
    const Panels project(in, gated, [&](ptrdiff_t c, ptrdiff_t h) { return f.project_weight[c * f.hidden + h]; });
    const Sums projection{in.vectors(), gated.vectors()};
    // the sums of a thread: first of the weight and bias of the projection, then of the expansion
    const ptrdiff_t bias_at = projection.floats(), expansion_at = bias_at + in.floats();
    const ptrdiff_t step = expansion_at + expansion.sums_floats();
    Buffer all(f.threads * step);
#pragma omp parallel num_threads(f.threads) if (f.threads > 1)
    {
        Buffer normal(BLOCK * in.floats()), gates(BLOCK * gated.floats()), halves(BLOCK * hidden.floats());
        Buffer dy(BLOCK * in.floats()), dnormal(BLOCK * in.floats());
        float scales[BLOCK];
        float* mine = all + thread_index() * step;
        for_blocks(f.pixels, [&](ptrdiff_t first, ptrdiff_t count) {
            const float* dy_rows = g.dy + first * f.channels;
            normalize(f.x + first * f.channels, count, f.channels, f.eps, normal, scales);
            for (ptrdiff_t r = 0; r < count; ++r) pack(in, dy_rows + r * f.channels, dy + r * in.floats());
            multiply(expand, normal, in.floats(), count, [&](ptrdiff_t r, ptrdiff_t v, const Vec* values) {
                float* pair = halves + r * hidden.floats() + v * WIDTH;
                store(pair, values[0]);
                store(pair + WIDTH, values[1]);
                store(gates + r * gated.floats() + v / 2 * WIDTH, values[0] * values[1]);
            });
            projection.add(dy, gates, count, mine);
            add_rows(dy, in.vectors(), count, mine + bias_at);
            multiply_each(project, dy, in.floats(), count, [&](ptrdiff_t r, ptrdiff_t v, Vec dgate) {
                float* pair = halves + r * hidden.floats() + 2 * v * WIDTH;
                const Vec a = load(pair), b = load(pair + WIDTH);
                store(pair, dgate * b);
                store(pair + WIDTH, dgate * a);
            });
            expansion.add_sums(halves, normal, count, mine + expansion_at);
            multiply_each(contract, halves, hidden.floats(), count, [&](ptrdiff_t r, ptrdiff_t v, Vec value) {
                store(dnormal + r * in.floats() + v * WIDTH, value);
            });
            normalize_backward(dnormal, normal, scales, count, f.channels, dy_rows, g.dx + first * f.channels);
        });
    }
    projection.finish(all, step, f.threads, {f.channels, 1}, {f.hidden, 1}, g.dproject_weight);
    add_threads(all + bias_at, step, f.threads, f.channels, g.dproject_bias);
    expansion.finish(all + expansion_at, step, f.threads, g.dnorm_weight, g.dnorm_bias, g.dexpand_weight, g.dexpand_bias);
}

}  // extern "C"
