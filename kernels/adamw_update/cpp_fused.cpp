// One AdamW step over contiguous elements, in place: four arrays are read and three written, once.

#include <cmath>

#include "native.h"

using namespace autoresearch;

namespace {

// Below this many elements starting the threads costs more than the work.
constexpr int64_t PARALLEL_ELEMENTS = 16384;

// The bias corrections are folded into the factors: p keep - step_size m / (sqrt(v inverse_bias2) + eps). Averages are
// sums of products rather than differences, so that an infinite gradient gives infinite moments.
template <typename T>
void update(T* p, const T* grad, T* exp_avg, T* exp_avg_sq, int64_t count, float keep, float beta1, float rest1,
            float beta2, float rest2, float step_size, float inverse_bias2, float eps) {
#pragma omp parallel for simd schedule(static) if (count > PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < count; ++i) {
        const float g = widen(grad[i]);
        const float m = beta1 * widen(exp_avg[i]) + rest1 * g;
        const float v = beta2 * widen(exp_avg_sq[i]) + rest2 * g * g;
        exp_avg[i] = narrow<T>(m);
        exp_avg_sq[i] = narrow<T>(v);
        p[i] = narrow<T>(widen(p[i]) * keep - step_size * (m / (std::sqrt(v * inverse_bias2) + eps)));
    }
}

}  // namespace

// factors: keep, beta1, 1 - beta1, beta2, 1 - beta2, step_size, 1 / bias2, eps (differences taken in double by the caller).
extern "C" int adamw_update(void* p, const void* grad, void* exp_avg, void* exp_avg_sq, int64_t count,
                            const double* factors, int dtype) {
    float f[8];
    for (int i = 0; i < 8; ++i) f[i] = float(factors[i]);
    return dispatch(dtype, [&](auto tag) {
        using T = decltype(tag);
        update(static_cast<T*>(p), static_cast<const T*>(grad), static_cast<T*>(exp_avg), static_cast<T*>(exp_avg_sq),
               count, f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7]);
        return 0;
    });
}
