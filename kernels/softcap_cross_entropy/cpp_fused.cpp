// Softcapped cross entropy: loss, and gradient where wanted, in one pass over the logits; a row stays in the cache.

#include <cmath>
#include <vector>

#include "native.h"

using namespace autoresearch;

namespace {

constexpr int64_t IGNORED = -1;
// Below this many elements starting the threads costs more than the work.
constexpr int64_t PARALLEL_ELEMENTS = 4096;

// The capped logit is cap tanh(x / cap) = 2 cap sigma(2 x / cap) - cap, and the constant cancels in the softmax. Writes
// sigma into `values` and its derivative into `slopes`. Returns the largest value; NaN is never the largest.
template <typename T>
float squash(const T* logits, float* values, float* slopes, int64_t classes, float softcap) {
    const float scale = 2.0f / softcap;
    float largest = 0.0f;
#pragma omp simd reduction(max : largest)
    for (int64_t i = 0; i < classes; ++i) {
        const Logistic at = logistic(widen(logits[i]) * scale);
        values[i] = at.value;
        slopes[i] = at.slope;
        largest = at.value > largest ? at.value : largest;
    }
    return largest;
}

// Replaces the values by exp(2 cap (value - largest)); returns their sum.
float exponentiate(float* values, int64_t classes, float softcap, float largest) {
    const float scale = 2.0f * softcap;
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < classes; ++i) {
        const float e = exp_of(scale * (values[i] - largest));
        values[i] = e;
        sum += e;
    }
    return sum;
}

// (softmax - onehot) d(capped)/d(logit) share, with d(capped)/d(logit) = 4 slope
template <typename T>
void differentiate(const float* exponentials, const float* slopes, T* gradient, int64_t classes, int64_t target,
                   float sum, float share) {
    const float scale = 4.0f * share / sum;
#pragma omp simd
    for (int64_t i = 0; i < classes; ++i) gradient[i] = narrow<T>(exponentials[i] * scale * slopes[i]);
    gradient[target] = narrow<T>((exponentials[target] / sum - 1.0f) * (4.0f * share) * slopes[target]);
}

// losses and gradient may be null. A row's share of the cotangent is shares[row * share_stride].
template <typename T>
void rows_of(const T* logits, int64_t row_stride, const int64_t* targets, float* losses, T* gradient,
             const float* shares, int64_t share_stride, int64_t rows, int64_t classes, float softcap) {
#pragma omp parallel if (rows * classes > PARALLEL_ELEMENTS)
    {
        std::vector<float> values(classes), slopes(classes);
#pragma omp for schedule(dynamic, 8)
        for (int64_t row = 0; row < rows; ++row) {
            T* out = gradient ? gradient + row * classes : nullptr;
            const int64_t target = targets[row];
            if (target == IGNORED) {
                if (losses) losses[row] = 0.0f;
                if (out) std::memset(static_cast<void*>(out), 0, classes * sizeof(T));
                continue;
            }
            const float largest = squash(logits + row * row_stride, values.data(), slopes.data(), classes, softcap);
            const float below = 2.0f * softcap * (largest - values[target]);
            const float sum = exponentiate(values.data(), classes, softcap, largest);
            if (losses) losses[row] = std::log(sum) + below;
            if (out) {
                differentiate(values.data(), slopes.data(), out, classes, target, sum, shares[row * share_stride]);
            }
        }
    }
}

}  // namespace

// loss: one number for the mean (with `losses` as scratch for every row), else null. gradient: null if it is not wanted;
// for the mean it is the one for cotangent 1. Returns 1 + the first row whose target is no class, 0 if all are right.
extern "C" int softcap_cross_entropy_forward(const void* logits, int64_t row_stride, const void* targets, void* losses,
                                             void* loss, void* gradient, int64_t rows, int64_t classes, float softcap,
                                             int dtype) {
    const int64_t* classes_wanted = static_cast<const int64_t*>(targets);
    int64_t counted = 0;
    for (int64_t row = 0; row < rows; ++row) {
        const int64_t target = classes_wanted[row];
        if (target < IGNORED || target >= classes) return int(row + 1);
        counted += target != IGNORED;
    }
    const float share = 1.0f / float(counted);
    float* per_row = static_cast<float*>(losses);
    const int status = dispatch(dtype, [&](auto tag) {
        using T = decltype(tag);
        rows_of(static_cast<const T*>(logits), row_stride, classes_wanted, per_row, static_cast<T*>(gradient), &share, 0,
                rows, classes, softcap);
        return 0;
    });
    if (loss) {
        // In the order of the rows, so that the sum does not depend on the number of threads; 0 / 0 is NaN.
        double total = 0.0;
        for (int64_t row = 0; row < rows; ++row) total += per_row[row];
        *static_cast<float*>(loss) = float(total / double(counted));
    }
    return status;
}

// The gradient for any cotangent: shares has one element per row, or one for all (share_stride 0). Targets were checked
// by the forward call.
extern "C" int softcap_cross_entropy_backward(const void* logits, int64_t row_stride, const void* targets,
                                              const void* shares, int64_t share_stride, void* gradient, int64_t rows,
                                              int64_t classes, float softcap, int dtype) {
    return dispatch(dtype, [&](auto tag) {
        using T = decltype(tag);
        rows_of(static_cast<const T*>(logits), row_stride, static_cast<const int64_t*>(targets), nullptr,
                static_cast<T*>(gradient), static_cast<const float*>(shares), share_stride, rows, classes, softcap);
        return 0;
    });
}
