// Math as explicit overload sets, not templates: a call that Metal finds ambiguous is ambiguous here too.
// Functions of half and bfloat compute in float and round once. The precise and fast variants are the same.
#pragma once
#include "vectors.h"

namespace msl {
namespace metal {

#define MSL_EACH_VECTOR(M, ...)                                                                            \
    M(float, 2, __VA_ARGS__) M(float, 3, __VA_ARGS__) M(float, 4, __VA_ARGS__)                             \
    M(half, 2, __VA_ARGS__) M(half, 3, __VA_ARGS__) M(half, 4, __VA_ARGS__)
#define MSL_VECTOR1(T, N, name)                                                                            \
    inline vec<T, N> name(vec<T, N> x) {                                                                   \
        for (int i = 0; i < N; ++i) x.data[i] = name(x.data[i]);                                           \
        return x;                                                                                          \
    }
#define MSL_VECTOR2(T, N, name)                                                                            \
    inline vec<T, N> name(vec<T, N> x, vec<T, N> y) {                                                      \
        for (int i = 0; i < N; ++i) x.data[i] = name(x.data[i], y.data[i]);                                \
        return x;                                                                                          \
    }
#define MSL_VECTOR3(T, N, name)                                                                            \
    inline vec<T, N> name(vec<T, N> x, vec<T, N> y, vec<T, N> z) {                                         \
        for (int i = 0; i < N; ++i) x.data[i] = name(x.data[i], y.data[i], z.data[i]);                     \
        return x;                                                                                          \
    }
#define MSL_MATH1(name, value)                                                                             \
    inline float name(float x) { return value; }                                                           \
    inline half name(half x) { return half(name(float(x))); }                                              \
    inline bfloat name(bfloat x) { return bfloat(name(float(x))); }                                        \
    MSL_EACH_VECTOR(MSL_VECTOR1, name)
#define MSL_MATH2(name, value)                                                                             \
    inline float name(float x, float y) { return value; }                                                  \
    inline half name(half x, half y) { return half(name(float(x), float(y))); }                            \
    inline bfloat name(bfloat x, bfloat y) { return bfloat(name(float(x), float(y))); }                    \
    MSL_EACH_VECTOR(MSL_VECTOR2, name)
#define MSL_MATH3(name, value)                                                                             \
    inline float name(float x, float y, float z) { return value; }                                         \
    inline half name(half x, half y, half z) { return half(name(float(x), float(y), float(z))); }          \
    inline bfloat name(bfloat x, bfloat y, bfloat z) { return bfloat(name(float(x), float(y), float(z))); } \
    MSL_EACH_VECTOR(MSL_VECTOR3, name)

constexpr float msl_PI = 3.14159265358979323846f;

MSL_MATH1(fabs, __builtin_fabsf(x))
MSL_MATH1(abs, __builtin_fabsf(x))
MSL_MATH1(acos, __builtin_acosf(x))
MSL_MATH1(acosh, __builtin_acoshf(x))
MSL_MATH1(asin, __builtin_asinf(x))
MSL_MATH1(asinh, __builtin_asinhf(x))
MSL_MATH1(atan, __builtin_atanf(x))
MSL_MATH1(atanh, __builtin_atanhf(x))
MSL_MATH1(ceil, __builtin_ceilf(x))
MSL_MATH1(cos, __builtin_cosf(x))
MSL_MATH1(cosh, __builtin_coshf(x))
MSL_MATH1(cospi, __builtin_cosf(msl_PI* x))
MSL_MATH1(exp, __builtin_expf(x))
MSL_MATH1(exp2, __builtin_exp2f(x))
MSL_MATH1(exp10, __builtin_powf(10.0f, x))
MSL_MATH1(floor, __builtin_floorf(x))
MSL_MATH1(fract, __builtin_fminf(x - __builtin_floorf(x), 0x1.fffffep-1f))
MSL_MATH1(log, __builtin_logf(x))
MSL_MATH1(log2, __builtin_log2f(x))
MSL_MATH1(log10, __builtin_log10f(x))
MSL_MATH1(rint, __builtin_rintf(x))
MSL_MATH1(round, __builtin_roundf(x))
MSL_MATH1(rsqrt, 1.0f / __builtin_sqrtf(x))
MSL_MATH1(saturate, __builtin_fminf(__builtin_fmaxf(x, 0.0f), 1.0f))
MSL_MATH1(sign, x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x == 0.0f ? x : 0.0f)
MSL_MATH1(sin, __builtin_sinf(x))
MSL_MATH1(sinh, __builtin_sinhf(x))
MSL_MATH1(sinpi, __builtin_sinf(msl_PI* x))
MSL_MATH1(sqrt, __builtin_sqrtf(x))
MSL_MATH1(tan, __builtin_tanf(x))
MSL_MATH1(tanh, __builtin_tanhf(x))
MSL_MATH1(tanpi, __builtin_tanf(msl_PI* x))
MSL_MATH1(trunc, __builtin_truncf(x))
MSL_MATH2(atan2, __builtin_atan2f(x, y))
MSL_MATH2(copysign, __builtin_copysignf(x, y))
MSL_MATH2(divide, x / y)
MSL_MATH2(fdim, __builtin_fdimf(x, y))
MSL_MATH2(fmax, __builtin_fmaxf(x, y))
MSL_MATH2(fmin, __builtin_fminf(x, y))
MSL_MATH2(max, __builtin_fmaxf(x, y))
MSL_MATH2(min, __builtin_fminf(x, y))
MSL_MATH2(fmod, __builtin_fmodf(x, y))
MSL_MATH2(pow, __builtin_powf(x, y))
MSL_MATH2(powr, __builtin_powf(x, y))
MSL_MATH2(step, y < x ? 0.0f : 1.0f)
MSL_MATH2(nextafter, __builtin_nextafterf(x, y))
MSL_MATH3(fma, __builtin_fmaf(x, y, z))
MSL_MATH3(clamp, __builtin_fminf(__builtin_fmaxf(x, y), z))
MSL_MATH3(mix, x + (y - x) * z)
MSL_MATH3(max3, __builtin_fmaxf(x, __builtin_fmaxf(y, z)))
MSL_MATH3(min3, __builtin_fminf(x, __builtin_fminf(y, z)))
MSL_MATH3(fmax3, __builtin_fmaxf(x, __builtin_fmaxf(y, z)))
MSL_MATH3(fmin3, __builtin_fminf(x, __builtin_fminf(y, z)))
MSL_MATH3(median3, __builtin_fmaxf(__builtin_fminf(x, y), __builtin_fminf(__builtin_fmaxf(x, y), z)))

inline float smoothstep(float low, float high, float x) {
    float t = saturate((x - low) / (high - low));
    return t * t * (3.0f - 2.0f * t);
}
inline float ldexp(float x, int power) { return __builtin_ldexpf(x, power); }
inline half ldexp(half x, int power) { return half(__builtin_ldexpf(float(x), power)); }
inline float modf(float x, float& whole) {
    whole = trunc(x);
    return x - whole;
}
inline float sincos(float x, float& cosine) {
    cosine = cos(x);
    return sin(x);
}

#define MSL_TEST(name, value)                                                                              \
    inline bool name(float x) { return value; }                                                            \
    inline bool name(half x) { return name(float(x)); }                                                    \
    inline bool name(bfloat x) { return name(float(x)); }                                                  \
    template <typename T, int N> inline vec<bool, N> name(vec<T, N> x) {                                   \
        vec<bool, N> result;                                                                               \
        for (int i = 0; i < N; ++i) result.data[i] = name(x.data[i]);                                      \
        return result;                                                                                     \
    }
MSL_TEST(isnan, __builtin_isnan(x))
MSL_TEST(isinf, __builtin_isinf(x))
MSL_TEST(isfinite, __builtin_isfinite(x))
MSL_TEST(isnormal, __builtin_isnormal(x))
MSL_TEST(signbit, __builtin_signbit(x))

#define MSL_INTEGER(T)                                                                                     \
    inline T min(T x, T y) { return y < x ? y : x; }                                                       \
    inline T max(T x, T y) { return x < y ? y : x; }                                                       \
    inline T min3(T x, T y, T z) { return min(x, min(y, z)); }                                             \
    inline T max3(T x, T y, T z) { return max(x, max(y, z)); }                                             \
    inline T clamp(T x, T low, T high) { return min(max(x, low), high); }                                  \
    inline T popcount(T x) { return T(__builtin_popcountll(make_unsigned_t<T>(x))); }                      \
    inline T clz(T x) {                                                                                    \
        return x ? T(__builtin_clzll(make_unsigned_t<T>(x)) - int(64 - 8 * sizeof(T))) : T(8 * sizeof(T)); \
    }                                                                                                      \
    inline T ctz(T x) { return x ? T(__builtin_ctzll(make_unsigned_t<T>(x))) : T(8 * sizeof(T)); }         \
    inline T rotate(T x, T by) {                                                                           \
        constexpr unsigned bits = 8 * sizeof(T);                                                           \
        auto u = make_unsigned_t<T>(x);                                                                    \
        return T(u << (by & (bits - 1)) | u >> (-by & (bits - 1)));                                        \
    }                                                                                                      \
    inline make_unsigned_t<T> absdiff(T x, T y) {                                                          \
        using U = make_unsigned_t<T>;                                                                      \
        return x < y ? U(U(y) - U(x)) : U(U(x) - U(y));                                                    \
    }
MSL_INTEGER(char)
MSL_INTEGER(uchar)
MSL_INTEGER(short)
MSL_INTEGER(ushort)
MSL_INTEGER(int)
MSL_INTEGER(uint)
MSL_INTEGER(long)
MSL_INTEGER(ulong)
inline int abs(int x) { return x < 0 ? -x : x; }
inline short abs(short x) { return short(x < 0 ? -x : x); }
inline char abs(char x) { return char(x < 0 ? -x : x); }
inline long abs(long x) { return x < 0 ? -x : x; }
inline uint mulhi(uint x, uint y) { return uint(ulong(x) * y >> 32); }
inline int mulhi(int x, int y) { return int(long(x) * y >> 32); }
inline ulong mulhi(ulong x, ulong y) { return ulong((unsigned __int128)x * y >> 64); }
inline uint extract_bits(uint x, uint start, uint bits) {
    return bits == 0 ? 0 : x << (32 - start - bits) >> (32 - bits);
}
inline uint reverse_bits(uint x) {
    uint result = 0;
    for (int i = 0; i < 32; ++i) result |= (x >> i & 1u) << (31 - i);
    return result;
}
#define MSL_INTEGER_VECTOR(T, N)                                                                           \
    MSL_VECTOR2(T, N, min) MSL_VECTOR2(T, N, max) MSL_VECTOR3(T, N, clamp)
#define MSL_INTEGER_VECTORS(T) MSL_INTEGER_VECTOR(T, 2) MSL_INTEGER_VECTOR(T, 3) MSL_INTEGER_VECTOR(T, 4)
MSL_INTEGER_VECTORS(int)
MSL_INTEGER_VECTORS(uint)
MSL_INTEGER_VECTORS(short)
MSL_INTEGER_VECTORS(ushort)

// Vectors as points, and choices by mask.
#define MSL_GEOMETRY(T, N, unused)                                                                         \
    inline T dot(vec<T, N> x, vec<T, N> y) {                                                               \
        T sum = x.data[0] * y.data[0];                                                                     \
        for (int i = 1; i < N; ++i) sum += x.data[i] * y.data[i];                                          \
        return sum;                                                                                        \
    }                                                                                                      \
    inline T length_squared(vec<T, N> x) { return dot(x, x); }                                             \
    inline T length(vec<T, N> x) { return sqrt(dot(x, x)); }                                               \
    inline T distance(vec<T, N> x, vec<T, N> y) { return length(x - y); }                                  \
    inline T distance_squared(vec<T, N> x, vec<T, N> y) { return length_squared(x - y); }                  \
    inline vec<T, N> normalize(vec<T, N> x) { return x * vec<T, N>(rsqrt(dot(x, x))); }
MSL_EACH_VECTOR(MSL_GEOMETRY, )
inline float3 cross(float3 a, float3 b) {
    return float3(a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x);
}
template <int N> inline bool all(vec<bool, N> x) {
    bool result = true;
    for (int i = 0; i < N; ++i) result = result && x.data[i];
    return result;
}
template <int N> inline bool any(vec<bool, N> x) {
    bool result = false;
    for (int i = 0; i < N; ++i) result = result || x.data[i];
    return result;
}
template <typename T> inline T select(T no, T yes, bool chosen) { return chosen ? yes : no; }
template <typename T, int N> inline vec<T, N> select(vec<T, N> no, vec<T, N> yes, vec<bool, N> chosen) {
    for (int i = 0; i < N; ++i) no.data[i] = chosen.data[i] ? yes.data[i] : no.data[i];
    return no;
}

namespace precise {
using namespace msl::metal;
}
namespace fast {
using namespace msl::metal;
}

}  // namespace metal
}  // namespace msl

#define M_PI_F 3.14159265358979323846f
#define M_PI_2_F 1.57079632679489661923f
#define M_PI_4_F 0.785398163397448309616f
#define M_1_PI_F 0.318309886183790671538f
#define M_2_PI_F 0.636619772367581343076f
#define M_2_SQRTPI_F 1.12837916709551257390f
#define M_SQRT2_F 1.41421356237309504880f
#define M_SQRT1_2_F 0.707106781186547524400f
#define M_E_F 2.71828182845904523536f
#define M_LOG2E_F 1.44269504088896340736f
#define M_LOG10E_F 0.434294481903251827651f
#define M_LN2_F 0.693147180559945309417f
#define M_LN10_F 2.30258509299404568402f
#define MAXFLOAT 0x1.fffffep127f
#define FLT_MAX 0x1.fffffep127f
#define FLT_MIN 0x1p-126f
#define FLT_EPSILON 0x1p-23f
#define HALF_MAX half(65504.0f)
#define HALF_MIN half(0x1p-14f)
#define HALF_EPSILON half(0x1p-10f)
#define INFINITY __builtin_inff()
#define HUGE_VALF __builtin_inff()
#define NAN __builtin_nanf("")
