// z = a x + b x0 and its root-mean-square norm, rows of contiguous elements, forward and backward.

#include <algorithm>
#include <memory>
#include <vector>

#include "vector.h"

using namespace autoresearch;

namespace {

// Below this many elements starting the threads costs more than the work.
constexpr int64_t PARALLEL_ELEMENTS = 16384;
// Rows whose sums are taken before the first of them is written, so that roots and divisions overlap. The sums of the
// factors' gradients, which may cancel over a million terms, are added up in double, by row and in the order of the
// blocks, whatever the number of threads.
constexpr int BLOCK = 16;

template <typename T>
void forward(const T* x, const T* x0, float a, float b, T* mixed, T* normed, int64_t rows, int64_t width, float eps) {
    const int64_t room = round_up(width, LANES);
#pragma omp parallel if (rows * width > PARALLEL_ELEMENTS)
    {
        const std::unique_ptr<float[]> z(new float[BLOCK * room]);
#pragma omp for schedule(static)
        for (int64_t first = 0; first < rows; first += BLOCK) {
            const int64_t count = std::min<int64_t>(BLOCK, rows - first);
            float reciprocals[BLOCK] = {};
            for (int64_t row = 0; row < count; ++row) {
                const int64_t at = (first + row) * width;
                Sum squares;
                for_vectors(width, [&](int64_t i, int64_t n) {
                    const Floats mix = a * load_some(x + at + i, n) + b * load_some(x0 + at + i, n);
                    squares += mix * mix;
                    store(&z[row * room + i], mix);
                    store_some(mixed + at + i, mix, n);
                });
                reciprocals[row] = squares.value();
            }
            reciprocal_roots(reciprocals, BLOCK, float(width), eps);
            for (int64_t row = 0; row < count; ++row)
                for_vectors(width, [&](int64_t i, int64_t n) {
                    store_some(normed + (first + row) * width + i, load(&z[row * room + i]) * reciprocals[row], n);
                });
        }
    }
}

// With r = 1 / rms and cotangents gm and gn: dz = gm + r (gn - z r² mean(gn z)), dx = a dz, dx0 = b dz,
// sums[0] = sum(dz x), sums[1] = sum(dz x0).
template <typename T>
void backward(const T* gm, const T* gn, const T* x, const T* x0, float a, float b, T* dx, T* dx0, float* sums,
              int64_t rows, int64_t width, float eps) {
    const int64_t blocks = (rows + BLOCK - 1) / BLOCK;
    std::vector<double> partial(2 * blocks);
#pragma omp parallel for schedule(static) if (rows * width > PARALLEL_ELEMENTS)
    for (int64_t block = 0; block < blocks; ++block) {
        const int64_t first = block * BLOCK, count = std::min<int64_t>(BLOCK, rows - first);
        float reciprocals[BLOCK] = {}, shares[BLOCK];
        for (int64_t row = 0; row < count; ++row) {
            const int64_t at = (first + row) * width;
            Sum squares, products;
            for_vectors(width, [&](int64_t i, int64_t n) {
                const Floats z = a * load_some(x + at + i, n) + b * load_some(x0 + at + i, n);
                squares += z * z;
                products += z * load_some(gn + at + i, n);
            });
            reciprocals[row] = squares.value();
            shares[row] = products.value();
        }
        reciprocal_roots(reciprocals, BLOCK, float(width), eps);
        for (int64_t row = 0; row < count; ++row) {
            const int64_t at = (first + row) * width;
            const float reciprocal = reciprocals[row];
            // In this order nothing overflows before the result would.
            const float share = shares[row] * reciprocal / float(width) * reciprocal;
            Sum with_x, with_x0;
            for_vectors(width, [&](int64_t i, int64_t n) {
                const Floats from = load_some(x + at + i, n), from0 = load_some(x0 + at + i, n);
                const Floats difference = load_some(gn + at + i, n) - (a * from + b * from0) * share;
                const Floats dz = load_some(gm + at + i, n) + reciprocal * difference;
                with_x += dz * from;
                with_x0 += dz * from0;
                store_some(dx + at + i, a * dz, n);
                store_some(dx0 + at + i, b * dz, n);
            });
            partial[2 * block] += with_x.value();
            partial[2 * block + 1] += with_x0.value();
        }
    }
    double total[2] = {0.0, 0.0};
    for (int64_t i = 0; i < 2 * blocks; ++i) total[i % 2] += partial[i];
    sums[0] = float(total[0]);
    sums[1] = float(total[1]);
}

}  // namespace

extern "C" int residual_norm_forward(const void* x, const void* x0, const float* a, const float* b, void* mixed,
                                     void* normed, int64_t rows, int64_t width, float eps, int dtype) {
    return dispatch(dtype, [&](auto tag) {
        using T = decltype(tag);
        forward(static_cast<const T*>(x), static_cast<const T*>(x0), *a, *b, static_cast<T*>(mixed),
                static_cast<T*>(normed), rows, width, eps);
        return 0;
    });
}

extern "C" int residual_norm_backward(const void* gm, const void* gn, const void* x, const void* x0, const float* a,
                                      const float* b, void* dx, void* dx0, float* sums, int64_t rows, int64_t width,
                                      float eps, int dtype) {
    return dispatch(dtype, [&](auto tag) {
        using T = decltype(tag);
        backward(static_cast<const T*>(gm), static_cast<const T*>(gn), static_cast<const T*>(x),
                 static_cast<const T*>(x0), *a, *b, static_cast<T*>(dx), static_cast<T*>(dx0), sums, rows, width, eps);
        return 0;
    });
}
