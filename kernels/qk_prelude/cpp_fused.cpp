// Rotary position embedding, then root-mean-square norm, of all heads of queries and keys, forward and backward.

#include <algorithm>
#include <memory>

#include "vector.h"

using namespace autoresearch;

namespace {

// Below this many elements starting the threads costs more than the work.
constexpr int64_t PARALLEL_ELEMENTS = 16384;
// Heads whose sums are taken before the first of them is written, so that roots and divisions overlap.
constexpr int BLOCK = 16;

// x (B, T, H, D) with a dense last axis; y and g, of the same shape, contiguous.
template <typename T>
struct Heads {
    const T* x;
    int64_t batch, row, head;  // strides in elements
    const T* g;
    T* y;
    int64_t count;  // H
};

// z1 = x1 cos + x2 sin, z2 = x2 cos - x1 sin: the halves of a head, rotated; with -sin back again.
struct Split {
    Floats first, second;
};

VECTOR_INLINE Split rotate(Split x, Floats cos, Floats sin) {
    return {fma(x.first, cos, x.second * sin), fma(x.second, cos, -x.first * sin)};
}

// With z the rotated head and r = 1 / rms: y = z r; backward dz = r (g - z r² mean(g z)), and dx is dz rotated back.
template <bool BACKWARD, typename T>
void prepare(const Heads<T>& heads, const T* cos, const T* sin, int64_t rows, int64_t length, int64_t half, float eps,
             float* z) {
    const int64_t room = 2 * round_up(half, LANES);
#pragma omp for schedule(static) nowait
    for (int64_t first = 0; first < rows; first += BLOCK) {
        const int count = int(std::min<int64_t>(BLOCK, rows - first));
        float reciprocals[BLOCK] = {}, shares[BLOCK];
        const auto at = [&](int i) { return (first + i) * 2 * half; };
        int64_t angles[BLOCK];
        int64_t h = first % heads.count, t = first / heads.count % length, b = first / heads.count / length;
        for (int row = 0; row < count; ++row, ++h) {
            if (h == heads.count) {
                h = 0;
                if (++t == length) t = 0, ++b;
            }
            angles[row] = t * half;
            const T* x = heads.x + b * heads.batch + t * heads.row + h * heads.head;
            const T *g = heads.g + at(row), *c = cos + angles[row], *s = sin + angles[row];
            float* out = z + row * room;
            Floats squares{}, products{};
            for_vectors(half, [&](int64_t i, int64_t n) {
                const Split rotated = rotate({load_some(x + i, n), load_some(x + half + i, n)}, load_some(c + i, n),
                                             load_some(s + i, n));
                squares += rotated.first * rotated.first + rotated.second * rotated.second;
                if (BACKWARD) {
                    products += rotated.first * load_some(g + i, n) + rotated.second * load_some(g + half + i, n);
                }
                store(out + 2 * i, rotated.first);
                store(out + 2 * i + LANES, rotated.second);
            });
            reciprocals[row] = sum(squares);
            shares[row] = BACKWARD ? sum(products) : 0.0f;
        }
        reciprocal_roots(reciprocals, BLOCK, float(2 * half), eps);
        for (int row = 0; row < count; ++row) {
            const T *g = heads.g + at(row), *c = cos + angles[row], *s = sin + angles[row];
            const float* in = z + row * room;
            T* y = heads.y + at(row);
            const float reciprocal = reciprocals[row];
            // In this order nothing overflows before the result would.
            const float share = shares[row] * reciprocal / float(2 * half) * reciprocal;
            for_vectors(half, [&](int64_t i, int64_t n) {
                Split out{load(in + 2 * i), load(in + 2 * i + LANES)};
                if (BACKWARD) {
                    out.first = load_some(g + i, n) - out.first * share;
                    out.second = load_some(g + half + i, n) - out.second * share;
                }
                out = {out.first * reciprocal, out.second * reciprocal};
                if (BACKWARD) out = rotate(out, load_some(c + i, n), -load_some(s + i, n));
                store_some(y + i, out.first, n);
                store_some(y + half + i, out.second, n);
            });
        }
    }
}

template <bool BACKWARD, typename T>
void prepare_both(const Heads<T> (&both)[2], const T* cos, const T* sin, int64_t positions, int64_t length,
                  int64_t half, float eps) {
#pragma omp parallel if (positions * (both[0].count + both[1].count) * half > PARALLEL_ELEMENTS)
    {
        const std::unique_ptr<float[]> z(new float[BLOCK * 2 * round_up(half, LANES)]);
        for (const Heads<T>& heads : both)
            prepare<BACKWARD>(heads, cos, sin, positions * heads.count, length, half, eps, z.get());
    }
}

}  // namespace

// arrays: x, g (null forward) and y of the queries, then of the keys; cos and sin (T, D / 2) contiguous, of their type.
// sizes: B, T, D / 2, heads of queries and of keys; strides: of B, T and heads of both x, in elements.
extern "C" int qk_prelude_rows(const void* q, const void* gq, void* yq, const void* k, const void* gk, void* yk,
                               const void* cos, const void* sin, const int64_t* sizes, const int64_t* strides,
                               float eps, int dtype) {
    return dispatch(dtype, [&](auto tag) {
        using T = decltype(tag);
        const auto pointer = [](const void* at) { return static_cast<const T*>(at); };
        const Heads<T> both[] = {
            {pointer(q), strides[0], strides[1], strides[2], pointer(gq), static_cast<T*>(yq), sizes[3]},
            {pointer(k), strides[3], strides[4], strides[5], pointer(gk), static_cast<T*>(yk), sizes[4]}};
        const auto run = gq ? prepare_both<true, T> : prepare_both<false, T>;
        run(both, pointer(cos), pointer(sin), sizes[0] * sizes[1], sizes[1], sizes[2], eps);
        return 0;
    });
}
