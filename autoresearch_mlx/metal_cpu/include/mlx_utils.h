// The helpers that MLX puts before every custom kernel: limits, locating elements of strided arrays, small arithmetic.
#pragma once
#include "atomic.h"
#include "matrix.h"

namespace msl {
using namespace metal;

typedef half float16_t;
typedef bfloat bfloat16_t;

template <typename U> struct Limits {
    static inline const U max = metal::numeric_limits<U>::max();
    static inline const U min = metal::numeric_limits<U>::min();
    static inline const U finite_max = metal::numeric_limits<U>::max();
    static inline const U finite_min = metal::numeric_limits<U>::lowest();
};
#define MSL_FLOAT_LIMITS(T)                                                       \
    template <> struct Limits<T> {                                                \
        static inline const T max = metal::numeric_limits<T>::infinity();         \
        static inline const T min = -metal::numeric_limits<T>::infinity();        \
        static inline const T finite_max = metal::numeric_limits<T>::max();       \
        static inline const T finite_min = metal::numeric_limits<T>::lowest();    \
    };
MSL_FLOAT_LIMITS(float)
MSL_FLOAT_LIMITS(half)
MSL_FLOAT_LIMITS(bfloat)
#undef MSL_FLOAT_LIMITS

// Offset, in elements, of element number `elem` in row-major order of an array with this shape and these strides.
template <typename IdxT = int64_t>
MSL_INLINE IdxT elem_to_loc(IdxT elem, const int* shape, const int64_t* strides, int ndim) {
    IdxT offset = 0;
    for (int axis = ndim - 1; axis >= 0 && elem > 0; --axis) {
        offset += (elem % shape[axis]) * IdxT(strides[axis]);
        elem /= shape[axis];
    }
    return offset;
}
// The same with the last two axes given by x and y, and the others together by z.
template <typename IdxT = int64_t>
MSL_INLINE IdxT elem_to_loc(uint3 elem, const int* shape, const int64_t* strides, int ndim) {
    IdxT offset = elem.x * IdxT(strides[ndim - 1]) + elem.y * IdxT(strides[ndim - 2]);
    for (int axis = ndim - 3; axis >= 0; --axis) {
        offset += (elem.z % shape[axis]) * IdxT(strides[axis]);
        elem.z /= shape[axis];
    }
    return offset;
}
template <typename IdxT = int64_t> MSL_INLINE IdxT elem_to_loc_1(uint elem, const int64_t& stride) {
    return elem * IdxT(stride);
}
template <typename IdxT = int64_t> MSL_INLINE IdxT elem_to_loc_2(uint2 elem, const int64_t* strides) {
    return elem.x * IdxT(strides[1]) + elem.y * IdxT(strides[0]);
}
template <typename IdxT = int64_t> MSL_INLINE IdxT elem_to_loc_3(uint3 elem, const int64_t* strides) {
    return elem.x * IdxT(strides[2]) + elem.y * IdxT(strides[1]) + elem.z * IdxT(strides[0]);
}

template <typename T, typename U> inline T ceildiv(T n, U m) { return (n + m - 1) / m; }

inline float log1p(float x) { return __builtin_log1pf(x); }
inline bfloat16_t log1p(bfloat16_t x) { return bfloat16_t(__builtin_log1pf(float(x))); }

template <typename U, typename T> inline U cast_to(T value) { return static_cast<U>(value); }

}  // namespace msl
