// Root-mean-square normalisation of rows of contiguous elements, forward and backward, one pass over memory each.

#include <algorithm>

#include "vector.h"

using namespace autoresearch;

namespace {

// Below this many elements starting the threads costs more than the work.
constexpr int64_t PARALLEL_ELEMENTS = 16384;
// Rows whose sums are taken before the first of them is written: roots and divisions of a block overlap, where one row
// at a time would wait for each. A block stays in the cache.
constexpr int64_t BLOCK = 16;

// y = x / sqrt(mean(x^2) + eps)
template <typename T>
void normalise(const T* x, T* y, int64_t rows, int64_t width, float eps) {
#pragma omp parallel for schedule(static) if (rows * width > PARALLEL_ELEMENTS)
    for (int64_t first = 0; first < rows; first += BLOCK) {
        const int64_t count = std::min(BLOCK, rows - first);
        float reciprocals[round_up(BLOCK, LANES)] = {};
        for (int64_t row = 0; row < count; ++row) {
            const T* in = x + (first + row) * width;
            Sum squares;
            for_vectors(width, [&](int64_t i, int64_t n) {
                const Floats value = load_some(in + i, n);
                squares += value * value;
            });
            reciprocals[row] = squares.value();
        }
        reciprocal_roots(reciprocals, BLOCK, float(width), eps);
        for (int64_t row = 0; row < count; ++row) {
            const T* in = x + (first + row) * width;
            T* out = y + (first + row) * width;
            const float reciprocal = reciprocals[row];
            for_vectors(width,
                        [&](int64_t i, int64_t n) { store_some(out + i, load_some(in + i, n) * reciprocal, n); });
        }
    }
}

// With r = 1 / rms and y = x r: dx = r (g - y mean(g y)). Recomputing r costs nothing: the row is read anyway.
template <typename T>
void differentiate(const T* g, const T* x, T* dx, int64_t rows, int64_t width, float eps) {
#pragma omp parallel for schedule(static) if (rows * width > PARALLEL_ELEMENTS)
    for (int64_t first = 0; first < rows; first += BLOCK) {
        const int64_t count = std::min(BLOCK, rows - first);
        float reciprocals[round_up(BLOCK, LANES)] = {}, shares[BLOCK];
        for (int64_t row = 0; row < count; ++row) {
            const T* in = x + (first + row) * width;
            const T* gradient = g + (first + row) * width;
            Sum squares, products;
            for_vectors(width, [&](int64_t i, int64_t n) {
                const Floats value = load_some(in + i, n);
                squares += value * value;
                products += load_some(gradient + i, n) * value;
            });
            reciprocals[row] = squares.value();
            shares[row] = products.value();
        }
        reciprocal_roots(reciprocals, BLOCK, float(width), eps);
        for (int64_t row = 0; row < count; ++row) {
            const T* in = x + (first + row) * width;
            const T* gradient = g + (first + row) * width;
            T* out = dx + (first + row) * width;
            const float reciprocal = reciprocals[row];
            // In this order nothing overflows before the result would.
            const float share = shares[row] * reciprocal / float(width) * reciprocal;
            for_vectors(width, [&](int64_t i, int64_t n) {
                store_some(out + i, reciprocal * (load_some(gradient + i, n) - load_some(in + i, n) * share), n);
            });
        }
    }
}

}  // namespace

extern "C" int rms_norm_forward(const void* x, void* y, int64_t rows, int64_t width, float eps, int dtype) {
    return dispatch(dtype, [&](auto tag) {
        using T = decltype(tag);
        normalise(static_cast<const T*>(x), static_cast<T*>(y), rows, width, eps);
        return 0;
    });
}

extern "C" int rms_norm_backward(const void* g, const void* x, void* dx, int64_t rows, int64_t width, float eps,
                                 int dtype) {
    return dispatch(dtype, [&](auto tag) {
        using T = decltype(tag);
        differentiate(static_cast<const T*>(g), static_cast<const T*>(x), static_cast<T*>(dx), rows, width, eps);
        return 0;
    });
}
