// y = a x + b x0 over contiguous elements, and its gradients for all four, in one pass each.

#include <vector>

#include "native.h"

using namespace autoresearch;

namespace {

// Below this many elements starting the threads costs more than the work.
constexpr int64_t PARALLEL_ELEMENTS = 16384;
// The two sums, which may cancel over a million terms, are taken in double: per block, then in the order of the blocks,
// whatever the number of threads.
constexpr int64_t BLOCK = 4096;

template <typename T>
void mix(const T* x, const T* x0, float a, float b, T* y, int64_t count) {
#pragma omp parallel for simd schedule(static) if (count > PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < count; ++i) y[i] = narrow<T>(a * widen(x[i]) + b * widen(x0[i]));
}

// dx = a g, dx0 = b g, sums[0] = sum(g x), sums[1] = sum(g x0)
template <typename T>
void differentiate(const T* g, const T* x, const T* x0, float a, float b, T* dx, T* dx0, float* sums, int64_t count) {
    const int64_t blocks = (count + BLOCK - 1) / BLOCK;
    std::vector<double> partial(2 * blocks);
#pragma omp parallel for schedule(static) if (count > PARALLEL_ELEMENTS)
    for (int64_t block = 0; block < blocks; ++block) {
        const int64_t begin = block * BLOCK, end = begin + BLOCK < count ? begin + BLOCK : count;
        double first = 0.0, second = 0.0;
#pragma omp simd reduction(+ : first, second)
        for (int64_t i = begin; i < end; ++i) {
            const float gradient = widen(g[i]);
            first += double(gradient) * double(widen(x[i]));
            second += double(gradient) * double(widen(x0[i]));
            dx[i] = narrow<T>(a * gradient);
            dx0[i] = narrow<T>(b * gradient);
        }
        partial[2 * block] = first;
        partial[2 * block + 1] = second;
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
