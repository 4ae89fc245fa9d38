// z = a x + b x0 and its root-mean-square norm, rows of contiguous elements, forward and backward.

#include <algorithm>
#include <memory>
#include <vector>

#include "vector.h"

using namespace autoresearch;

namespace {

// Below this many elements starting the threads costs more than the work.
constexpr int64_t PARALLEL_ELEMENTS = 16384;
// The two sums, which may cancel over a million terms, are taken in double: by row, by block, then in the order of the
// blocks, whatever the number of threads.
constexpr int64_t BLOCK = 64;

float reciprocal_rms(Floats squares, int64_t width, float eps) { return 1.0f / std::sqrt(sum(squares) / float(width) + eps); }

template <typename T>
void forward(const T* x, const T* x0, float a, float b, T* mixed, T* normed, int64_t rows, int64_t width, float eps) {
#pragma omp parallel if (rows * width > PARALLEL_ELEMENTS)
    {
        const std::unique_ptr<float[]> z(new float[width + LANES]);
#pragma omp for schedule(static)
        for (int64_t row = 0; row < rows; ++row) {
            const int64_t at = row * width;
            Floats squares{};
            for_vectors(width, [&](int64_t i, int64_t count) {
                const Floats mix = a * load_some(x + at + i, count) + b * load_some(x0 + at + i, count);
                squares += mix * mix;
                store(&z[i], mix);
                store_some(mixed + at + i, mix, count);
            });
            const float reciprocal = reciprocal_rms(squares, width, eps);
            for_vectors(width, [&](int64_t i, int64_t count) {
                store_some(normed + at + i, load(&z[i]) * reciprocal, count);
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
        double first = 0.0, second = 0.0;
        for (int64_t row = block * BLOCK; row < std::min(rows, (block + 1) * BLOCK); ++row) {
            const int64_t at = row * width;
            Floats squares{}, products{};
            for_vectors(width, [&](int64_t i, int64_t count) {
                const Floats z = a * load_some(x + at + i, count) + b * load_some(x0 + at + i, count);
                squares += z * z;
                products += z * load_some(gn + at + i, count);
            });
            const float reciprocal = reciprocal_rms(squares, width, eps);
            // In this order nothing overflows before the result would.
            const float share = sum(products) * reciprocal / float(width) * reciprocal;
            Floats with_x{}, with_x0{};
            for_vectors(width, [&](int64_t i, int64_t count) {
                const Floats from = load_some(x + at + i, count), from0 = load_some(x0 + at + i, count);
                const Floats difference = load_some(gn + at + i, count) - (a * from + b * from0) * share;
                const Floats dz = load_some(gm + at + i, count) + reciprocal * difference;
                with_x += dz * from;
                with_x0 += dz * from0;
                store_some(dx + at + i, a * dz, count);
                store_some(dx0 + at + i, b * dz, count);
            });
            first += sum(with_x);
            second += sum(with_x0);
        }
        partial[2 * block] = first;
        partial[2 * block + 1] = second;
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
        backward(static_cast<const T*>(gm), static_cast<const T*>(gn), static_cast<const T*>(x), static_cast<const T*>(x0),
                 *a, *b, static_cast<T*>(dx), static_cast<T*>(dx0), sums, rows, width, eps);
        return 0;
    });
}
