// Squared ReLU over contiguous elements, forward and backward, one pass each.

#include <algorithm>

#include "vector.h"

using namespace autoresearch;

namespace {

// Below this many elements starting the threads costs more than the work.
constexpr int64_t PARALLEL_ELEMENTS = 32768;

// Elements that a thread takes at a time.
constexpr int64_t CHUNK = 4096;

template <typename Body>
void for_chunks(int64_t elements, Body body) {
#pragma omp parallel for schedule(static) if (elements > PARALLEL_ELEMENTS)
    for (int64_t first = 0; first < elements; first += CHUNK)
        for_vectors(std::min(CHUNK, elements - first), [&](int64_t i, int64_t count) { body(first + i, count); });
}

// NaN goes through.
VECTOR_INLINE Floats relu(Floats value) { return at_least(value, Floats{}); }

template <typename T>
void square(const T* x, T* y, int64_t elements) {
    for_chunks(elements, [&](int64_t i, int64_t count) {
        const Floats positive = relu(load_some(x + i, count));
        store_some(y + i, positive * positive, count);
    });
}

template <typename T>
void differentiate(const T* g, const T* x, T* dx, int64_t elements) {
    for_chunks(elements, [&](int64_t i, int64_t count) {
        store_some(dx + i, 2.0f * relu(load_some(x + i, count)) * load_some(g + i, count), count);
    });
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
