// Rotary position embedding, then root-mean-square norm, of all heads of queries and keys, forward and backward.

#include <memory>

#include "vector.h"

using namespace autoresearch;

namespace {

// Below this many elements starting the threads costs more than the work.
constexpr int64_t PARALLEL_ELEMENTS = 16384;

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
VECTOR_INLINE void head(const T* x, const T* g, const T* cos, const T* sin, T* y, int64_t half, float eps, float* z) {
    Floats squares{}, products{};
    for_vectors(half, [&](int64_t i, int64_t count) {
        const Split rotated = rotate({load_some(x + i, count), load_some(x + half + i, count)},
                                       load_some(cos + i, count), load_some(sin + i, count));
        squares += rotated.first * rotated.first + rotated.second * rotated.second;
        if (BACKWARD) {
            products += rotated.first * load_some(g + i, count) + rotated.second * load_some(g + half + i, count);
        }
        store(z + 2 * i, rotated.first);
        store(z + 2 * i + LANES, rotated.second);
    });
    const float width = float(2 * half), reciprocal = 1.0f / std::sqrt(sum(squares) / width + eps);
    // In this order nothing overflows before the result would.
    const float share = BACKWARD ? sum(products) * reciprocal / width * reciprocal : 0.0f;
    for_vectors(half, [&](int64_t i, int64_t count) {
        Split out{load(z + 2 * i), load(z + 2 * i + LANES)};
        if (BACKWARD) {
            out.first = load_some(g + i, count) - out.first * share;
            out.second = load_some(g + half + i, count) - out.second * share;
        }
        out = {out.first * reciprocal, out.second * reciprocal};
        if (BACKWARD) out = rotate(out, load_some(cos + i, count), -load_some(sin + i, count));
        store_some(y + i, out.first, count);
        store_some(y + half + i, out.second, count);
    });
}

template <bool BACKWARD, typename T>
void prepare(const Heads<T>* both, const T* cos, const T* sin, int64_t batch, int64_t length, int64_t half, float eps) {
    const int64_t heads = both[0].count + both[1].count;
#pragma omp parallel if (batch * length * heads * half > PARALLEL_ELEMENTS)
    {
        const std::unique_ptr<float[]> z(new float[2 * (half + LANES)]);
#pragma omp for schedule(static)
        for (int64_t position = 0; position < batch * length; ++position) {
            const int64_t b = position / length, t = position % length;
            for (int which = 0; which < 2; ++which) {
                const Heads<T>& each = both[which];
                for (int64_t h = 0; h < each.count; ++h) {
                    const int64_t at = (position * each.count + h) * 2 * half;
                    head<BACKWARD>(each.x + b * each.batch + t * each.row + h * each.head, each.g + at, cos + t * half,
                                   sin + t * half, each.y + at, half, eps, z.get());
                }
            }
        }
    }
}

}  // namespace

// arrays: x, g (null forward) and y of the queries, then of the keys; cos and sin (T, D / 2) contiguous, of their type.
// sizes: B, T, D / 2, heads of queries and of keys; strides: of B, T and heads of both x, in elements.
extern "C" int qk_prelude_rows(const void* q, const void* gq, void* yq, const void* k, const void* gk, void* yk,
                               const void* cos, const void* sin, const int64_t* sizes, const int64_t* strides, float eps,
                               int dtype) {
    return dispatch(dtype, [&](auto tag) {
        using T = decltype(tag);
        const auto pointer = [](const void* at) { return static_cast<const T*>(at); };
        const Heads<T> both[] = {
            {pointer(q), strides[0], strides[1], strides[2], pointer(gq), static_cast<T*>(yq), sizes[3]},
            {pointer(k), strides[3], strides[4], strides[5], pointer(gk), static_cast<T*>(yk), sizes[4]}};
        const auto run = gq ? prepare<true, T> : prepare<false, T>;
        run(both, pointer(cos), pointer(sin), sizes[0], sizes[1], sizes[2], eps);
        return 0;
    });
}
