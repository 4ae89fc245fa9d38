// y = v + 2 sigmoid(gate) ve: rows of D contiguous elements with one gate each, forward and backward.

#include "vector.h"

using namespace autoresearch;

namespace {

// Below this many elements starting the threads costs more than the work.
constexpr int64_t PARALLEL_ELEMENTS = 16384;

// exp_of keeps to +-87, where the sigmoid is 1 or within 1e-38 of 0.
inline float sigmoid(float z) { return 1.0f / (1.0f + exp_of(-z)); }

template <typename T>
void mix(const T* v, const T* ve, const T* gate, T* y, int64_t rows, int64_t width) {
#pragma omp parallel for schedule(static) if (rows * width > PARALLEL_ELEMENTS)
    for (int64_t row = 0; row < rows; ++row) {
        const float factor = 2.0f * sigmoid(widen(gate[row]));
        const int64_t at = row * width;
        for_vectors(width, [&](int64_t i, int64_t count) {
            i += at;
            store_some(y + i, load_some(v + i, count) + factor * load_some(ve + i, count), count);
        });
    }
}

// dve = 2 s g, dgate = 2 s (1 - s) sum(g ve)
template <typename T>
void differentiate(const T* g, const T* ve, const T* gate, T* dve, T* dgate, int64_t rows, int64_t width) {
#pragma omp parallel for schedule(static) if (rows * width > PARALLEL_ELEMENTS)
    for (int64_t row = 0; row < rows; ++row) {
        const float z = widen(gate[row]), s = sigmoid(z), factor = 2.0f * s;
        const int64_t at = row * width;
        Floats products{};
        for_vectors(width, [&](int64_t i, int64_t count) {
            i += at;
            const Floats gradient = load_some(g + i, count);
            products += gradient * load_some(ve + i, count);
            store_some(dve + i, factor * gradient, count);
        });
        // sigmoid(-z) is 1 - s without cancellation.
        dgate[row] = narrow<T>(factor * sigmoid(-z) * sum(products));
    }
}

}  // namespace

extern "C" int value_gate_forward(const void* v, const void* ve, const void* gate, void* y, int64_t rows, int64_t width,
                                  int dtype) {
    return dispatch(dtype, [&](auto tag) {
        using T = decltype(tag);
        mix(static_cast<const T*>(v), static_cast<const T*>(ve), static_cast<const T*>(gate), static_cast<T*>(y), rows,
            width);
        return 0;
    });
}

extern "C" int value_gate_backward(const void* g, const void* ve, const void* gate, void* dve, void* dgate,
                                   int64_t rows, int64_t width, int dtype) {
    return dispatch(dtype, [&](auto tag) {
        using T = decltype(tag);
        differentiate(static_cast<const T*>(g), static_cast<const T*>(ve), static_cast<const T*>(gate),
                      static_cast<T*>(dve), static_cast<T*>(dgate), rows, width);
        return 0;
    });
}
