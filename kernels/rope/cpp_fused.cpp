// Rotary position embedding, forward and backward: the transpose of a rotation is the rotation by the opposite angle.

#include "vector.h"

using namespace autoresearch;

namespace {

// Below this many elements starting the threads costs more than the work.
constexpr int64_t PARALLEL_ELEMENTS = 16384;

// x (B,T,H,D) with the given strides in elements and contiguous D; cos and sin (T,D/2) and y (B,T,H,D) contiguous.
// y1 = x1 cos + x2 (sign sin), y2 = x2 cos - x1 (sign sin).
template <typename T, typename Angle>
void rotate(const T* x, const int64_t* strides, const Angle* cos, const Angle* sin, T* y, int64_t batch,
            int64_t length, int64_t heads, int64_t half, float sign) {
#pragma omp parallel for schedule(static) if (batch * length * heads * half > PARALLEL_ELEMENTS)
    for (int64_t position = 0; position < batch * length; ++position) {
        const int64_t b = position / length, t = position % length;
        const Angle* c = cos + t * half;
        const Angle* s = sin + t * half;
        for (int64_t h = 0; h < heads; ++h) {
            const T* in = x + b * strides[0] + t * strides[1] + h * strides[2];
            T* out = y + (position * heads + h) * 2 * half;
            for_vectors(half, [&](int64_t i, int64_t count) {
                const Floats x1 = load_some(in + i, count), x2 = load_some(in + half + i, count);
                const Floats cosine = load_some(c + i, count), sine = sign * load_some(s + i, count);
                store_some(out + i, x1 * cosine + x2 * sine, count);
                store_some(out + half + i, x2 * cosine - x1 * sine, count);
            });
        }
    }
}

}  // namespace

// sizes: B, T, H, D/2. strides: of B, T, H in elements.
extern "C" int rope_rotate(const void* x, const int64_t* strides, const void* cos, const void* sin, void* y,
                           const int64_t* sizes, float sign, int dtype, int angle_dtype) {
    return dispatch(dtype, [&](auto tag) {
        using T = decltype(tag);
        const auto run = [&](auto angle_tag) {
            using Angle = decltype(angle_tag);
            rotate(static_cast<const T*>(x), strides, static_cast<const Angle*>(cos), static_cast<const Angle*>(sin),
                   static_cast<T*>(y), sizes[0], sizes[1], sizes[2], sizes[3], sign);
            return 0;
        };
        return angle_dtype == dtype ? run(T{}) : run(float{});
    });
}
