// y = a x + b x0 over contiguous elements, and its gradients for all four, in one pass each.

#include <algorithm>
#include <type_traits>
#include <vector>

#include "vector.h"

using namespace autoresearch;

namespace {

// Below this many elements starting the threads costs more than the work.
constexpr int64_t PARALLEL_ELEMENTS = 16384;
// The two sums, which may cancel over a million terms, are taken per block, then in double in the order of the blocks,
// whatever the number of threads.
constexpr int64_t BLOCK = 4096;

template <typename T>
void mix(const T* x, const T* x0, float a, float b, T* y, int64_t elements) {
#pragma omp parallel for schedule(static) if (elements > PARALLEL_ELEMENTS)
    for (int64_t first = 0; first < elements; first += BLOCK)
        for_vectors(std::min(BLOCK, elements - first), [&](int64_t i, int64_t count) {
            i += first;
            store_some(y + i, a * load_some(x + i, count) + b * load_some(x0 + i, count), count);
        });
}

// A sum of products: in double, or, where products of bfloat16 are exact in float32, in runs of that.
struct WideSum {
    typedef double Doubles __attribute__((vector_size(8 * LANES)));
    Doubles lanes{};

    VECTOR_INLINE void add(Floats a, Floats b) {
        lanes += __builtin_convertvector(a, Doubles) * __builtin_convertvector(b, Doubles);
    }
    double value() const {
        double total = 0.0;
        for (int i = 0; i < LANES; ++i) total += lanes[i];
        return total;
    }
};

struct NarrowSum : Sum {
    VECTOR_INLINE void add(Floats a, Floats b) { *this += a * b; }
};

template <typename T>
using Total = std::conditional_t<std::is_same_v<T, bfloat16>, NarrowSum, WideSum>;

// dx = a g, dx0 = b g, sums[0] = sum(g x), sums[1] = sum(g x0)
template <typename T>
void differentiate(const T* g, const T* x, const T* x0, float a, float b, T* dx, T* dx0, float* sums,
                   int64_t elements) {
    const int64_t blocks = (elements + BLOCK - 1) / BLOCK;
    std::vector<double> partial(2 * blocks);
#pragma omp parallel for schedule(static) if (elements > PARALLEL_ELEMENTS)
    for (int64_t block = 0; block < blocks; ++block) {
        const int64_t first = block * BLOCK;
        Total<T> with_x, with_x0;
        for_vectors(std::min(BLOCK, elements - first), [&](int64_t i, int64_t count) {
            i += first;
            const Floats gradient = load_some(g + i, count);
            with_x.add(gradient, load_some(x + i, count));
            with_x0.add(gradient, load_some(x0 + i, count));
            store_some(dx + i, a * gradient, count);
            store_some(dx0 + i, b * gradient, count);
        });
        partial[2 * block] = with_x.value();
        partial[2 * block + 1] = with_x0.value();
    }
    double total[2] = {0.0, 0.0};
    for (int64_t block = 0; block < blocks; ++block) {
        total[0] += partial[2 * block];
        total[1] += partial[2 * block + 1];
    }
    sums[0] = float(total[0]);
    sums[1] = float(total[1]);
}

}  // namespace

extern "C" int residual_mix_forward(const void* x, const void* x0, const float* a, const float* b, void* y,
                                    int64_t count, int dtype) {
    return dispatch(dtype, [&](auto tag) {
        using T = decltype(tag);
        mix(static_cast<const T*>(x), static_cast<const T*>(x0), *a, *b, static_cast<T*>(y), count);
        return 0;
    });
}

extern "C" int residual_mix_backward(const void* g, const void* x, const void* x0, const float* a, const float* b,
                                     void* dx, void* dx0, float* sums, int64_t count, int dtype) {
    return dispatch(dtype, [&](auto tag) {
        using T = decltype(tag);
        differentiate(static_cast<const T*>(g), static_cast<const T*>(x), static_cast<const T*>(x0), *a, *b,
                      static_cast<T*>(dx), static_cast<T*>(dx0), sums, count);
        return 0;
    });
}
