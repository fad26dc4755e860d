// Vectors of floats, and the functions on them that PyTorch's library has no fast form of.
#pragma once

#include <stddef.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

namespace {

#ifdef __AVX512F__
constexpr int WIDTH = 16;
#else
constexpr int WIDTH = 8;
#endif

typedef float Vec __attribute__((vector_size(WIDTH * sizeof(float))));
typedef int Ints __attribute__((vector_size(WIDTH * sizeof(int))));

inline Vec splat(float x) { return x - Vec{}; }

inline Vec load(const float* p, int lanes) {
    Vec v{};
    if (lanes == WIDTH) memcpy(&v, p, sizeof v);
    else memcpy(&v, p, lanes * sizeof(float));
    return v;
}

inline void store(float* p, Vec v, int lanes) {
    if (lanes == WIDTH) memcpy(p, &v, sizeof v);
    else memcpy(p, &v, lanes * sizeof(float));
}

inline float sum(Vec v) {
    float total = 0;
    for (int i = 0; i < WIDTH; ++i) total += v[i];
    return total;
}

// 2^x for x <= 0, to 2e-7: the integer part goes into the exponent, the rest, in [-1/2, 1/2], through a polynomial.
inline Vec exp2_of_negative(Vec x) {
    const Vec magic = splat(12582912.0f);  // 1.5 * 2^23: adding it leaves the rounded integer in the lowest bits
    x = splat(-126.0f) > x ? splat(-126.0f) : x;  // keeps NaN, so that no fault is hidden
    Vec shifted = x + magic;
    Vec f = x - (shifted - magic);
    Vec p = splat(0.00132647204f);
    p = p * f + splat(0.00967151302f);
    p = p * f + splat(0.0555073378f);
    p = p * f + splat(0.240222421f);
    p = p * f + splat(0.693146978f);
    p = p * f + splat(1.0f);
    // not by adding bits, which would make a number of some NaN
    return p * (Vec)(((Ints)shifted << 23) + 0x3f800000);
}

struct Step {
    Vec value, slope;  // softplus and its derivative
};

inline Step softplus(Vec z) {
    Vec magnitude = z > Vec{} ? z : -z;
    Vec e = exp2_of_negative(magnitude * splat(-1.44269504f));
    // log(1 + e) = 2 artanh(e / (2 + e)), exact in relative terms for small e
    Vec r = e / (splat(2.0f) + e), q = r * r;
    Vec series = splat(1.0f / 13);
    series = series * q + splat(1.0f / 11);
    series = series * q + splat(1.0f / 9);
    series = series * q + splat(1.0f / 7);
    series = series * q + splat(1.0f / 5);
    series = series * q + splat(1.0f / 3);
    series = series * q + splat(1.0f);
    Vec log1p = splat(2.0f) * r * series;
    Vec inverse = splat(1.0f) / (splat(1.0f) + e);
    return {z > Vec{} ? z + log1p : log1p, z > Vec{} ? inverse : e * inverse};
}

struct Gelu {
    Vec value, slope;  // x * Phi(x) and its derivative, with Phi of the normal distribution
};

inline Gelu gelu(Vec x) {
    const Vec z = (x > Vec{} ? x : -x) * splat(0.707106781f), bell = exp2_of_negative(z * z * splat(-1.44269504f));
    // erfc(z) for z >= 0, to 1.5e-7: Abramowitz and Stegun, 7.1.26
    const Vec t = splat(1.0f) / (splat(1.0f) + z * splat(0.3275911f));
    Vec p = splat(1.061405429f);
    p = p * t + splat(-1.453152027f);
    p = p * t + splat(1.421413741f);
    p = p * t + splat(-0.284496736f);
    p = p * t + splat(0.254829592f);
    const Vec tail = splat(0.5f) * p * t * bell, phi = x > Vec{} ? splat(1.0f) - tail : tail;
    return {x * phi, phi + x * splat(0.398942280f) * bell};
}

#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Ints{__VA_ARGS__})
#endif

// WIDTH vectors become the columns of what they were: every pass deals the rows of two halves out in turn.
inline void transpose(Vec* rows) {
    Vec other[WIDTH];
    for (int pass = 1; pass < WIDTH; pass *= 2) {
        for (int i = 0; i < WIDTH / 2; ++i) {
            const Vec a = rows[i], b = rows[i + WIDTH / 2];
#ifdef __AVX512F__
            other[2 * i] = SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            other[2 * i + 1] = SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#else
            other[2 * i] = SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
            other[2 * i + 1] = SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#endif
        }
        for (int i = 0; i < WIDTH; ++i) rows[i] = other[i];
    }
}

template <class T> inline T least(T a, T b) { return a < b ? a : b; }

}  // namespace
