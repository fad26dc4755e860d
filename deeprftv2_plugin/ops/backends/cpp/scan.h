// The selective scan and its gradients on a CPU.
//
// A vector register holds WIDTH channels of a position, so that all their states advance without a shuffle. The sequence is
// processed in chunks that fit in the L1 cache. The backward pass uses the stored states at the beginning of every chunk and
// recomputes those inside it.
#pragma once

#include "buffer.h"
#include "threads.h"

namespace {

constexpr int CHUNK = 16;  // with 32, the data of a chunk in the backward pass would not fit in 32 KB
constexpr int MOST_STATES = 64;
constexpr ptrdiff_t PADDING = 16;  // the channels of entries are padded to a multiple of it; a multiple of every WIDTH

int blocks_of(ptrdiff_t channels) { return int((channels + WIDTH - 1) / WIDTH); }
ptrdiff_t chunks_of(ptrdiff_t length) { return (length + CHUNK - 1) / CHUNK; }

}  // namespace

// Arguments of both passes: sizes, inputs and the states at the beginning of every chunk.
extern "C" struct Scan {
    ptrdiff_t batch, length, channels, states;
    const float *u, *delta;        // (batch, length, channels)
    const float *rates;            // (channels, states): A / ln 2
    const float *B, *C;            // (batch, length, states)
    const float *D, *bias;         // (channels,)
    float *entries;                // (batch, chunks, states, channels padded to a multiple of PADDING), or null
    ptrdiff_t threads;
};

extern "C" struct Gradients {
    const float *dy;               // (batch, length, channels)
    float *du, *ddelta;            // (batch, length, channels)
    float *dB, *dC;                // (batch, length, states)
    float *dA, *dD, *dbias;        // (batch, channels, states), (batch, channels) twice: summed by the caller
};

namespace {

template <int FIXED>
struct Kernel {
    static constexpr int ROOM = FIXED ? FIXED : MOST_STATES;
    const Scan& s;
    const int N, blocks;
    const ptrdiff_t chunks;
    explicit Kernel(const Scan& scan)
        : s(scan), N(FIXED ? FIXED : int(scan.states)), blocks(blocks_of(scan.channels)), chunks(chunks_of(scan.length)) {}

    int count() const { return FIXED ? FIXED : N; }
    int lanes(int block) const { return int(least<ptrdiff_t>(WIDTH, s.channels - ptrdiff_t(block) * WIDTH)); }

    // The rates of a block, one vector per state.
    void rates_of(int block, Vec* rates) const {
        for (int n = 0; n < count(); ++n)
            for (int i = 0; i < WIDTH; ++i)
                rates[n][i] = i < lanes(block) ? s.rates[(block * WIDTH + i) * ptrdiff_t(N) + n] : 0.0f;
    }

    // State n of a block at the beginning of a chunk.
    float* entry(ptrdiff_t b, ptrdiff_t chunk, int n, int block) const {
        const ptrdiff_t padded = (s.channels + PADDING - 1) / PADDING * PADDING;
        return s.entries + ((b * chunks + chunk) * count() + n) * padded + block * WIDTH;
    }

    // WIDTH channels of every position of a chunk.
    void read(const float* map, ptrdiff_t b, ptrdiff_t chunk, int block, Vec* tile) const {
        const float* p = map + (b * s.length + chunk * CHUNK) * s.channels + block * WIDTH;
        const int size = positions(chunk), width = lanes(block);
        if (width == WIDTH)
            for (int l = 0; l < size; ++l) tile[l] = load(p + l * s.channels);
        else
            for (int l = 0; l < size; ++l) tile[l] = load(p + l * s.channels, width);
    }

    void write(float* map, ptrdiff_t b, ptrdiff_t chunk, int block, const Vec* tile) const {
        float* p = map + (b * s.length + chunk * CHUNK) * s.channels + block * WIDTH;
        const int size = positions(chunk), width = lanes(block);
        if (width == WIDTH)
            for (int l = 0; l < size; ++l) store(p + l * s.channels, tile[l]);
        else
            for (int l = 0; l < size; ++l) store(p + l * s.channels, tile[l], width);
    }

    int positions(ptrdiff_t chunk) const { return int(least<ptrdiff_t>(CHUNK, s.length - chunk * CHUNK)); }

    // The steps of a chunk. They are computed outside of the recurrence, which would wait for each of them.
    void steps_of(ptrdiff_t b, ptrdiff_t chunk, int block, Step* steps) const {
        const Vec bias = load(s.bias + block * WIDTH, lanes(block));
        Vec delta[CHUNK];
        read(s.delta, b, chunk, block, delta);
        for (int l = 0; l < positions(chunk); ++l) steps[l] = softplus(delta[l] + bias);
    }

    void forward(ptrdiff_t b, int block, float* y) const {
        const Vec skip = load(s.D + block * WIDTH, lanes(block));
        Vec rates[ROOM], h[ROOM], u[CHUNK], out[CHUNK];
        Step steps[CHUNK];
        rates_of(block, rates);
        for (int n = 0; n < count(); ++n) h[n] = Vec{};
        for (ptrdiff_t chunk = 0; chunk < chunks; ++chunk) {
            if (s.entries)
                for (int n = 0; n < count(); ++n) store(entry(b, chunk, n, block), h[n]);
            steps_of(b, chunk, block, steps);
            read(s.u, b, chunk, block, u);
            for (int l = 0; l < positions(chunk); ++l) {
                const ptrdiff_t row = (b * s.length + chunk * CHUNK + l) * N;
                const Vec step = steps[l].value, x = step * u[l];
                Vec total = skip * u[l];
                for (int n = 0; n < count(); ++n) {
                    h[n] = exp2_of_negative(step * rates[n]) * h[n] + x * s.B[row + n];
                    total += h[n] * s.C[row + n];
                }
                out[l] = total;
            }
            write(y, b, chunk, block, out);
        }
    }

    // The data of a block that the backward pass carries from chunk to chunk.
    struct Carried {
        Vec adjoint[ROOM];  // gradient of the initial state of the following chunk
        Vec dA[ROOM];
        Vec dD, dbias;
    };

    // The backward pass of a chunk of a block. Adds to `products`, for each position, the vectors whose sums are dB, then dC.
    void backward(const Gradients& g, ptrdiff_t b, ptrdiff_t chunk, int block, Carried& c, Vec* products) const {
        const int size = positions(chunk);
        const ptrdiff_t first = (b * s.length + chunk * CHUNK) * N;
        const Vec skip = load(s.D + block * WIDTH, lanes(block));
        Vec rates[ROOM], decay[CHUNK][ROOM], before[CHUNK + 1][ROOM], u[CHUNK], dy[CHUNK], du[CHUNK], ddelta[CHUNK];
        Step steps[CHUNK];
        rates_of(block, rates);
        for (int n = 0; n < count(); ++n) before[0][n] = load(entry(b, chunk, n, block), lanes(block));
        steps_of(b, chunk, block, steps);
        read(s.u, b, chunk, block, u);
        read(g.dy, b, chunk, block, dy);
        for (int l = 0; l < size; ++l) {
            const Vec x = steps[l].value * u[l];
            const float* B = s.B + first + l * N;
            for (int n = 0; n < count(); ++n) {
                decay[l][n] = exp2_of_negative(steps[l].value * rates[n]);
                before[l + 1][n] = decay[l][n] * before[l][n] + x * B[n];
            }
        }
        for (int l = size - 1; l >= 0; --l) {
            const Vec step = steps[l].value, x = step * u[l];
            const float *B = s.B + first + l * N, *C = s.C + first + l * N;
            Vec dx{}, dstep{};
            Vec *dB = products + 2 * l * count(), *dC = dB + count();
            for (int n = 0; n < count(); ++n) {
                const Vec adjoint = c.adjoint[n] + dy[l] * C[n];
                dB[n] += adjoint * x;
                dC[n] += dy[l] * before[l + 1][n];
                dx += adjoint * B[n];
                c.adjoint[n] = adjoint * decay[l][n];
                const Vec by_exponent = c.adjoint[n] * before[l][n];
                dstep += by_exponent * rates[n];
                c.dA[n] += by_exponent * step;
            }
            du[l] = dx * step + dy[l] * skip;
            ddelta[l] = (dstep * splat(0.693147181f) + dx * u[l]) * steps[l].slope;  // the rates are in powers of two
            c.dD += dy[l] * u[l];
            c.dbias += ddelta[l];
        }
        write(g.du, b, chunk, block, du);
        write(g.ddelta, b, chunk, block, ddelta);
    }

    void finish(const Gradients& g, ptrdiff_t b, int block, const Carried& c) const {
        const ptrdiff_t first = b * s.channels + ptrdiff_t(block) * WIDTH;
        store(g.dD + first, c.dD, lanes(block));
        store(g.dbias + first, c.dbias, lanes(block));
        for (int i = 0; i < lanes(block); ++i)
            for (int n = 0; n < count(); ++n) g.dA[(first + i) * N + n] = c.dA[n][i];
    }
};

// Number of positions between two barriers of the threads, at which their shares of dB and dC are added. Barriers are rare,
// since threads that sleep while they wait take long to wake up.
constexpr ptrdiff_t MEETING = 128 * CHUNK;

template <int FIXED>
void run_forward(const Scan& s, float* y) {
    const Kernel<FIXED> kernel(s);
    const ptrdiff_t tasks = s.batch * kernel.blocks;
#pragma omp parallel for num_threads(s.threads) schedule(static) if (s.threads > 1)
    for (ptrdiff_t task = 0; task < tasks; ++task) kernel.forward(task / kernel.blocks, int(task % kernel.blocks), y);
}

// The backward pass of the positions [from, until) of some blocks of a sequence. Writes the sums over the channels of these
// blocks, for every position first of dB, then of dC.
template <int FIXED>
void run_back(const Kernel<FIXED>& kernel, const Gradients& g, ptrdiff_t b, Span blocks, ptrdiff_t from, ptrdiff_t until,
              typename Kernel<FIXED>::Carried* carried, float* dBC) {
    const int values = 2 * kernel.count();
    for (ptrdiff_t chunk = chunks_of(until) - 1; chunk * CHUNK >= from; --chunk) {
        Vec products[(CHUNK * 2 * Kernel<FIXED>::ROOM + WIDTH - 1) / WIDTH * WIDTH];
        const int size = kernel.positions(chunk) * values;
        memset((void*)products, 0, (size + WIDTH - 1) / WIDTH * WIDTH * sizeof(Vec));
        for (ptrdiff_t block = blocks.begin; block < blocks.end; ++block)
            kernel.backward(g, b, chunk, int(block), carried[block], products);
        float* out = dBC + (chunk * CHUNK - from) * values;
        for (int i = 0; i < size; i += WIDTH) store(out + i, sums(products + i), least(WIDTH, size - i));
    }
}

// dB and dC of some positions: the totals of the sums of `count` threads, which are `room` floats apart.
void add_shares(const Scan& s, const Gradients& g, ptrdiff_t b, ptrdiff_t from, Span positions, const float* shares,
                ptrdiff_t room, int count) {
    const ptrdiff_t N = s.states;
    for (ptrdiff_t l = positions.begin; l < positions.end; ++l)
        for (ptrdiff_t n = 0; n < 2 * N; ++n) {
            float total = 0;
            for (int t = 0; t < count; ++t) total += shares[t * room + l * 2 * N + n];
            (n < N ? g.dB : g.dC)[(b * s.length + from + l) * N + n % N] = total;
        }
}

template <int FIXED>
void run_backward(const Scan& s, const Gradients& g) {
    typedef typename Kernel<FIXED>::Carried Carried;
    const Kernel<FIXED> kernel(s);
    const ptrdiff_t room = MEETING * 2 * s.states;
    const bool apart = s.batch >= s.threads;  // each thread processes whole sequences, otherwise some blocks of every sequence
    Buffer shares(s.threads * room);
#pragma omp parallel num_threads(s.threads) if (s.threads > 1)
    {
        const Span sequences = apart ? share_of(s.batch) : Span{0, s.batch};
        const Span blocks = apart ? Span{0, kernel.blocks} : share_of(kernel.blocks);
        Buffer memory(kernel.blocks * ptrdiff_t(sizeof(Carried) / sizeof(float)));
        Carried* carried = (Carried*)(float*)memory;
        float* mine = shares + thread_index() * room;
        for (ptrdiff_t b = sequences.begin; b < sequences.end; ++b) {
            memset((void*)carried, 0, kernel.blocks * sizeof(Carried));
            for (ptrdiff_t from = (s.length - 1) / MEETING * MEETING; from >= 0; from -= MEETING) {
                const ptrdiff_t count = least(MEETING, s.length - from);
                run_back(kernel, g, b, blocks, from, from + count, carried, mine);
                if (apart) {
                    add_shares(s, g, b, from, {0, count}, mine, room, 1);
                } else {
#pragma omp barrier
                    add_shares(s, g, b, from, share_of(count), shares, room, thread_count());
#pragma omp barrier
                }
            }
            for (ptrdiff_t block = blocks.begin; block < blocks.end; ++block)
                kernel.finish(g, b, int(block), carried[block]);
        }
    }
}

void run_forward(const Scan& s, float* y) { s.states == 8 ? run_forward<8>(s, y) : run_forward<0>(s, y); }

void run_backward(const Scan& s, const Gradients& g) { s.states == 8 ? run_backward<8>(s, g) : run_backward<0>(s, g); }

}  // namespace
