// Scalar types: the names of Metal, half, bfloat, and their limits.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <type_traits>

namespace msl {
namespace metal {

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long int64_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long uint64_t;
typedef _Float16 half;  // IEEE binary16; every operation rounds to it

using std::conditional_t;
using std::enable_if_t;
using std::is_same_v;
using std::make_signed_t;
using std::make_unsigned_t;
using std::remove_cv_t;
using std::remove_reference_t;

template <typename To, typename From>
inline constexpr To as_type(const From& value) {
    static_assert(sizeof(To) == sizeof(From), "as_type: the two types differ in size");
    return __builtin_bit_cast(To, value);
}

// The upper half of a binary32; arithmetic is binary32 followed by one rounding to nearest even. As in Metal it becomes
// a float by itself, but a float becomes a bfloat only when asked to.
struct bfloat {
    uint16_t bits;

    bfloat() = default;
    template <typename I, enable_if_t<std::is_integral_v<I>, int> = 0>
    constexpr bfloat(I value) : bits(rounded(static_cast<float>(value))) {}
    explicit constexpr bfloat(float value) : bits(rounded(value)) {}
    explicit constexpr bfloat(half value) : bits(rounded(static_cast<float>(value))) {}
    constexpr operator float() const { return as_type<float>(static_cast<uint32_t>(bits) << 16); }

    static constexpr uint16_t rounded(float value) {
        uint32_t wide = as_type<uint32_t>(value);
        if (value != value) return static_cast<uint16_t>(wide >> 16 | 0x40);
        return static_cast<uint16_t>((wide + 0x7fff + (wide >> 16 & 1)) >> 16);
    }
};

#define MSL_BFLOAT(op)                                                                                   \
    inline constexpr bfloat operator op(bfloat a, bfloat b) { return bfloat(float(a) op float(b)); }               \
    template <typename I, enable_if_t<std::is_integral_v<I>, int> = 0>                                   \
    inline constexpr bfloat operator op(bfloat a, I b) { return a op bfloat(b); }                                  \
    template <typename I, enable_if_t<std::is_integral_v<I>, int> = 0>                                   \
    inline constexpr bfloat operator op(I a, bfloat b) { return bfloat(a) op b; }                                  \
    inline bfloat& operator op##=(bfloat& a, float b) { return a = bfloat(float(a) op b); }
MSL_BFLOAT(+)
MSL_BFLOAT(-)
MSL_BFLOAT(*)
MSL_BFLOAT(/)
#undef MSL_BFLOAT
inline constexpr bfloat operator-(bfloat a) { return as_type<bfloat>(static_cast<uint16_t>(a.bits ^ 0x8000)); }
inline constexpr bfloat operator+(bfloat a) { return a; }
inline bfloat& operator++(bfloat& a) { return a = a + bfloat(1); }
inline bfloat& operator--(bfloat& a) { return a = a - bfloat(1); }

template <typename T> constexpr bool is_floating_point_v = std::is_floating_point_v<T>;
template <> inline constexpr bool is_floating_point_v<half> = true;
template <> inline constexpr bool is_floating_point_v<bfloat> = true;
template <typename T> constexpr bool is_integral_v = std::is_integral_v<T>;
template <typename T> constexpr bool is_arithmetic_v = is_integral_v<T> || is_floating_point_v<T>;

template <typename T> struct numeric_limits;
#define MSL_LIMITS(T, low, high, least)                                            \
    template <> struct numeric_limits<T> {                                         \
        static constexpr T min() { return least; }                                 \
        static constexpr T max() { return high; }                                  \
        static constexpr T lowest() { return low; }                                \
    };
MSL_LIMITS(bool, false, true, false)
MSL_LIMITS(char, -128, 127, -128)
MSL_LIMITS(signed char, -128, 127, -128)
MSL_LIMITS(uchar, 0, 255, 0)
MSL_LIMITS(short, -32768, 32767, -32768)
MSL_LIMITS(ushort, 0, 65535, 0)
MSL_LIMITS(int, INT32_MIN, INT32_MAX, INT32_MIN)
MSL_LIMITS(uint, 0, UINT32_MAX, 0)
MSL_LIMITS(long, INT64_MIN, INT64_MAX, INT64_MIN)
MSL_LIMITS(ulong, 0, UINT64_MAX, 0)
#undef MSL_LIMITS
template <typename T, uint32_t LEAST, uint32_t MOST, uint32_t STEP, uint32_t INF, uint32_t NOT>
struct msl_float_limits {
    using U = conditional_t<sizeof(T) == 4, uint32_t, uint16_t>;
    static constexpr T min() { return as_type<T>(U(LEAST)); }
    static constexpr T max() { return as_type<T>(U(MOST)); }
    static constexpr T lowest() { return -max(); }
    static constexpr T epsilon() { return as_type<T>(U(STEP)); }
    static constexpr T infinity() { return as_type<T>(U(INF)); }
    static constexpr T quiet_NaN() { return as_type<T>(U(NOT)); }
};
template <> struct numeric_limits<half> : msl_float_limits<half, 0x0400, 0x7bff, 0x1400, 0x7c00, 0x7e00> {};
template <> struct numeric_limits<bfloat> : msl_float_limits<bfloat, 0x0080, 0x7f7f, 0x3c00, 0x7f80, 0x7fc0> {};
// Of float also as constant expressions: kernels initialise constants with them.
template <> struct numeric_limits<float> {
    static constexpr float min() { return 0x1p-126f; }
    static constexpr float max() { return 0x1.fffffep127f; }
    static constexpr float lowest() { return -max(); }
    static constexpr float epsilon() { return 0x1p-23f; }
    static constexpr float infinity() { return __builtin_inff(); }
    static constexpr float quiet_NaN() { return __builtin_nanf(""); }
};

}  // namespace metal
}  // namespace msl
