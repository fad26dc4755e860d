// A linear layer of normalized pixels, the first step of every fused branch, and its gradients.
#pragma once

#include "gemm.h"
#include "norm.h"

namespace {

// weight * (norm_weight * normal + norm_bias) + bias. The affine part of the normalization is folded into the weights.
struct NormedLinear {
    ptrdiff_t channels;  // of the input
    Order out;
    const float *norm_weight, *norm_bias;  // (channels,)
    const float *weight;                   // (out.size(), channels)
    const float *bias;                     // (out.size(),) or null
    float eps;

    Order in() const { return {channels, 1}; }

    // The weights that map normalized pixels to outputs.
    Panels forward_panels() const {
        Panels panels(in(), out, [&](ptrdiff_t i, ptrdiff_t o) { return weight[o * channels + i] * norm_weight[i]; });
        for (ptrdiff_t o = 0; o < out.size(); ++o) {
            float total = bias ? bias[o] : 0.0f;
            for (ptrdiff_t i = 0; i < channels; ++i) total += weight[o * channels + i] * norm_bias[i];
            panels.bias()[out.place(o)] = total;
        }
        return panels;
    }

    // The weights that map the gradient of the outputs to that of the normalized pixels.
    Panels backward_panels() const {
        return Panels(out, in(), [&](ptrdiff_t o, ptrdiff_t i) { return weight[o * channels + i] * norm_weight[i]; });
    }

    Sums sums() const { return {out.vectors(), in().vectors()}; }
    // The number of floats that a thread sums: products of outputs and inputs, and outputs.
    ptrdiff_t sums_floats() const { return sums().floats() + out.floats(); }

    // Add the contribution of a block of pixels to a thread's sums, given the gradient of its outputs.
    void add_sums(const float* dout, const float* normal, ptrdiff_t pixels, float* mine) const {
        sums().add(dout, normal, pixels, mine);
        add_rows(dout, out.vectors(), pixels, mine + sums().floats());
    }

    // The gradients of the parameters, from the sums of all threads, which are `step` floats apart. dbias may be null.
    void finish(const float* all, ptrdiff_t step, ptrdiff_t threads, float* dnorm_weight, float* dnorm_bias, float* dweight,
                float* dbias) const {
        for (ptrdiff_t i = 0; i < channels; ++i) dnorm_weight[i] = dnorm_bias[i] = 0;
        for (ptrdiff_t o = 0; o < out.size(); ++o) {
            const ptrdiff_t place = out.place(o);
            float of_bias = 0;
            for (ptrdiff_t t = 0; t < threads; ++t) of_bias += all[t * step + sums().floats() + place];
            if (dbias) dbias[o] = of_bias;
            for (ptrdiff_t i = 0; i < channels; ++i) {
                float total = 0;
                for (ptrdiff_t t = 0; t < threads; ++t) total += all[t * step + place * in().floats() + i];
                dweight[o * channels + i] = total * norm_weight[i] + of_bias * norm_bias[i];
                dnorm_weight[i] += total * weight[o * channels + i];
                dnorm_bias[i] += of_bias * weight[o * channels + i];
            }
        }
    }
};

}  // namespace
