// Vectors of floats and elementary functions on them.
#pragma once

#include <stddef.h>
#include <string.h>

namespace {

// Files that define NARROW use vectors of half the size if there are large ones, see scan_narrow.cpp.
#if defined(__AVX512F__) && !defined(NARROW)
#define WIDE
#endif

#ifdef WIDE
constexpr int WIDTH = 16;
#else
constexpr int WIDTH = 8;
#endif

typedef float Vec __attribute__((vector_size(WIDTH * sizeof(float))));
typedef int Ints __attribute__((vector_size(WIDTH * sizeof(int))));

inline Vec splat(float x) { return x - Vec{}; }

inline Vec load(const float* p) {
    Vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

inline void store(float* p, Vec v) { memcpy(p, &v, sizeof v); }

// The first `lanes` floats, followed by zeros. GCC turns the loop into a masked load unless it unrolls it first.
inline Vec load(const float* p, int lanes) {
    if (lanes == WIDTH) return load(p);
    float kept[WIDTH];
#pragma GCC unroll 1
    for (int i = 0; i < WIDTH; ++i) kept[i] = i < lanes ? p[i] : 0.0f;
    return load(kept);
}

inline void store(float* p, Vec v, int lanes) {
    if (lanes == WIDTH) return store(p, v);
    float kept[WIDTH];
    store(kept, v);
#pragma GCC unroll 1
    for (int i = 0; i < WIDTH; ++i)
        if (i < lanes) p[i] = kept[i];
}

// v with zeros after the first `lanes` lanes.
inline Vec first_lanes(Vec v, int lanes) {
    Ints numbers;
    for (int i = 0; i < WIDTH; ++i) numbers[i] = i;
    return numbers < lanes ? v : Vec{};
}

template <class T> inline T least(T a, T b) { return a < b ? a : b; }

// Call body(i, lanes) for the vectors of a row of `count` floats; only the last has fewer than WIDTH lanes.
template <class F>
inline void for_vectors(ptrdiff_t count, F&& body) {
    ptrdiff_t i = 0;
    for (; i + WIDTH <= count; i += WIDTH) body(i, WIDTH);
    if (i < count) body(i, int(count - i));
}

#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Ints{__VA_ARGS__})
#endif

// The lanes of the first halves of a and b, interleaved, plus those of the second halves.
inline Vec fold(Vec a, Vec b) {
#ifdef WIDE
    return SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23) +
           SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#else
    return SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11) + SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#endif
}

template <int STEP>
struct SumsOfEvery {
    static Vec of(const Vec* rows) { return fold(SumsOfEvery<2 * STEP>::of(rows), SumsOfEvery<2 * STEP>::of(rows + STEP)); }
};

template <>
struct SumsOfEvery<WIDTH> {
    static Vec of(const Vec* rows) { return *rows; }
};

// The sums of WIDTH vectors: lane i is the sum of rows[i].
inline Vec sums(const Vec* rows) { return SumsOfEvery<1>::of(rows); }

// 2^x for x <= 0 with an error of 2e-7: the integer part becomes the exponent, a polynomial gives the rest in [-1/2, 1/2].
inline Vec exp2_of_negative(Vec x) {
    const Vec magic = splat(12582912.0f);  // 1.5 * 2^23: adding it leaves the rounded integer in the lowest bits
    x = splat(-126.0f) > x ? splat(-126.0f) : x;  // keeps NaN, so that errors are not hidden
    Vec shifted = x + magic;
    Vec f = x - (shifted - magic);
    Vec p = splat(0.00132647204f);
    p = p * f + splat(0.00967151302f);
    p = p * f + splat(0.0555073378f);
    p = p * f + splat(0.240222421f);
    p = p * f + splat(0.693146978f);
    p = p * f + splat(1.0f);
    // not by adding bits, which would turn some NaN into a number
    return p * (Vec)(((Ints)shifted << 23) + 0x3f800000);
}

struct Step {
    Vec value, slope;  // softplus and its derivative
};

inline Step softplus(Vec z) {
    Vec magnitude = z > Vec{} ? z : -z;
    Vec e = exp2_of_negative(magnitude * splat(-1.44269504f));
    // log(1 + e) = 2 artanh(e / (2 + e)), with a small relative error for small e
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
    const Vec size = (Vec)((Ints)x & 0x7fffffff), bell = exp2_of_negative(x * x * splat(-0.721347520f));
    // erfc(z) for z = size / sqrt(2) with an error of 1.5e-7: Abramowitz and Stegun, 7.1.26
    const Vec t = splat(1.0f) / (splat(1.0f) + size * splat(0.231641888f));
    Vec p = splat(0.530702715f);  // half of the coefficients given there
    p = p * t + splat(-0.726576014f);
    p = p * t + splat(0.710706870f);
    p = p * t + splat(-0.142248368f);
    p = p * t + splat(0.127414796f);
    const Vec tail = p * t * bell;
    return {(x > Vec{} ? x : Vec{}) - size * tail, (x > Vec{} ? splat(1.0f) - tail : tail) + x * splat(0.398942280f) * bell};
}

}  // namespace
