// Division of the work of a parallel region among its threads.
#pragma once

#include <stddef.h>
#ifdef _OPENMP
#include <omp.h>
#endif

namespace {

inline int thread_index() {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

inline int thread_count() {
#ifdef _OPENMP
    return omp_get_num_threads();
#else
    return 1;
#endif
}

struct Span {
    ptrdiff_t begin, end;
};

// This thread's share of `total` items, a multiple of `unit` except at the end.
inline Span share_of(ptrdiff_t total, ptrdiff_t unit = 1) {
    const ptrdiff_t me = thread_index(), team = thread_count(), units = (total + unit - 1) / unit;
    const ptrdiff_t begin = units * me / team * unit, end = units * (me + 1) / team * unit;
    return {begin < total ? begin : total, end < total ? end : total};
}

}  // namespace
