// Scratch memory of a kernel.
#pragma once

#include <stdint.h>
#include <stdlib.h>

#include "vectors.h"

namespace {

// Initialized to zeros and aligned for vectors. The end is padded, since a tile that starts at the last floats is read whole.
class Buffer {
  public:
    explicit Buffer(ptrdiff_t floats) : memory_(calloc(size_t(floats) * sizeof(float) + 128, 1)) {
        if (!memory_) abort();
        data_ = (float*)(((uintptr_t)memory_ + 63) / 64 * 64);
    }
    ~Buffer() { free(memory_); }
    Buffer(Buffer&& other) : memory_(other.memory_), data_(other.data_) { other.memory_ = nullptr; }
    Buffer& operator=(Buffer&&) = delete;

    operator float*() const { return data_; }

  private:
    void* memory_;
    float* data_;
};

// The order of the channels of a pixel in a row of vectors: the vectors of the parts alternate, so that the factors of a
// gate are adjacent. Parts are padded to whole vectors with zeros.
struct Order {
    ptrdiff_t channels;  // of a part
    int parts;

    ptrdiff_t vectors() const { return (channels + WIDTH - 1) / WIDTH * parts; }
    ptrdiff_t floats() const { return vectors() * WIDTH; }
    ptrdiff_t size() const { return channels * parts; }
    // The position of a channel in a row.
    ptrdiff_t place(ptrdiff_t channel) const {
        const ptrdiff_t part = channel / channels, i = channel % channels;
        return (i / WIDTH * parts + part) * WIDTH + i % WIDTH;
    }
    // The first channel of a vector, and the number of lanes with channels.
    ptrdiff_t first(ptrdiff_t vector) const { return vector % parts * channels + vector / parts * WIDTH; }
    int lanes(ptrdiff_t vector) const { return int(least<ptrdiff_t>(WIDTH, channels - vector / parts * WIDTH)); }
};

// Convert a row of a map or a parameter to this order and back.
inline void pack(Order order, const float* from, float* to) {
    for (ptrdiff_t v = 0; v < order.vectors(); ++v) store(to + v * WIDTH, load(from + order.first(v), order.lanes(v)));
}

inline void unpack(Order order, const float* from, float* to) {
    for (ptrdiff_t v = 0; v < order.vectors(); ++v) store(to + order.first(v), load(from + v * WIDTH), order.lanes(v));
}

}  // namespace
