// Squared ReLU over contiguous elements, forward and backward, one pass each.

#include "native.h"

using namespace autoresearch;

namespace {

// Below this many elements starting the threads costs more than the work.
constexpr int64_t PARALLEL_ELEMENTS = 32768;

// Comparing this way round lets NaN through.
inline float relu(float value) { return value < 0.0f ? 0.0f : value; }

template <typename T>
void square(const T* x, T* y, int64_t count) {
#pragma omp parallel for simd schedule(static) if (count > PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < count; ++i) {
        const float positive = relu(widen(x[i]));
        y[i] = narrow<T>(positive * positive);
    }
}

template <typename T>
void differentiate(const T* g, const T* x, T* dx, int64_t count) {
#pragma omp parallel for simd schedule(static) if (count > PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < count; ++i) dx[i] = narrow<T>(2.0f * relu(widen(x[i])) * widen(g[i]));
}

}  // namespace

extern "C" int relu_squared_forward(const void* x, void* y, int64_t count, int dtype) {
    return dispatch(dtype, [&](auto tag) {
        using T = decltype(tag);
        square(static_cast<const T*>(x), static_cast<T*>(y), count);
        return 0;
    });
}

extern "C" int relu_squared_backward(const void* g, const void* x, void* dx, int64_t count, int dtype) {
    return dispatch(dtype, [&](auto tag) {
        using T = decltype(tag);
        differentiate(static_cast<const T*>(g), static_cast<const T*>(x), static_cast<T*>(dx), count);
        return 0;
    });
}
