// Element types and elementary functions for the C++ kernels in kernels/*/; compiled in by autoresearch_cuda/native.py.
//
// Plain C++17 without intrinsics: written so that g++ and clang++ vectorise it for whatever machine they run on.
// Kernels export functions with C linkage that take raw pointers, sizes, and a dtype code; they compute in float32.
#pragma once

#include <cstdint>
#include <cstring>

namespace autoresearch {

// Codes passed by native.dtype_code.
enum DType : int { FLOAT32 = 0, BFLOAT16 = 1, FLOAT16 = 2 };

struct bfloat16 {
    uint16_t bits;
};

struct float16 {
    uint16_t bits;
};

inline uint32_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float float_of(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline float widen(float value) { return value; }

inline float widen(bfloat16 value) { return float_of(uint32_t(value.bits) << 16); }

// Moving the exponent by a product handles float16's subnormals; infinity and NaN get the full exponent separately.
inline float widen(float16 value) {
    const uint32_t sign = uint32_t(value.bits & 0x8000u) << 16;
    const uint32_t magnitude = uint32_t(value.bits & 0x7fffu) << 13;
    const float scaled = float_of(magnitude) * 0x1p112f;
    const uint32_t finite = bits_of(scaled);
    return float_of(sign | (magnitude >= 0x0f800000u ? magnitude | 0x7f800000u : finite));
}

template <typename T>
inline T narrow(float value);

template <>
inline float narrow<float>(float value) {
    return value;
}

// Round to nearest, ties to even; a NaN keeps its sign and becomes quiet (rounding could carry it into infinity).
template <>
inline bfloat16 narrow<bfloat16>(float value) {
    const uint32_t bits = bits_of(value);
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const uint32_t quiet = (bits >> 16) | 0x40u;
    return {uint16_t(value != value ? quiet : rounded)};
}

// As above. Below float16's normal range, adding 0.5 lets the float32 addition itself round to multiples of 2^-24.
template <>
inline float16 narrow<float16>(float value) {
    const uint32_t sign = (bits_of(value) >> 16) & 0x8000u;
    const uint32_t magnitude = bits_of(value) & 0x7fffffffu;
    const uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - 0x3f000000u;
    const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    uint32_t result = magnitude < 0x38800000u ? subnormal : normal;
    result = magnitude >= 0x477ff000u ? 0x7c00u : result;
    result = magnitude > 0x7f800000u ? 0x7e00u : result;
    return {uint16_t(sign | result)};
}

// exp(x) = scale (1 + rest) with scale = 2^n exactly and |rest| < 0.42, for -87 <= x <= 88. Keeping the two apart gives
// exp(x) - 1 = scale rest + (scale - 1) without cancellation near 0. NaN comes out as a NaN rest.
struct Exponential {
    float scale, rest;
};

inline Exponential exponential(float x) {
    // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits of the sum.
    const float shifted = x * 1.44269504088896341f + 12582912.0f;
    const float n = shifted - 12582912.0f;
    // log 2 in two parts, the first with so few bits that its product with n is exact.
    const float r = (x - n * 0.693359375f) + n * 2.12194440054691e-4f;
    // Minimax fit of (exp(r) - 1 - r) / r^2 for |r| <= log(2) / 2; error 3e-9 relative to exp(r).
    float q = 0.001381459878757596f;
    q = q * r + 0.008368716575205326f;
    q = q * r + 0.04166838899254799f;
    q = q * r + 0.1666652113199234f;
    q = q * r + 0.4999999403953552f;
    return {float_of((bits_of(shifted) << 23) + 0x3f800000u), r + r * r * q};
}

// e^x, 0 <= e^x; arguments below -87 count as -87 (1e-38) and above 88 as 88, NaN stays NaN.
inline float exp_of(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    const Exponential e = exponential(x);
    return e.scale + e.scale * e.rest;
}

// The logistic function and its derivative at x, both with a small relative error at either end: with e = exp(-|x|) and
// s = 1 / (1 + e) they are s or e s, and e s^2. (tanh(x / 2) = 2 value - 1 would lose the lower end to cancellation.)
struct Logistic {
    float value, slope;
};

inline Logistic logistic(float x) {
    const float magnitude = x < 0.0f ? -x : x;
    const Exponential parts = exponential(magnitude > 87.0f ? -87.0f : -magnitude);
    const float e = parts.scale + parts.scale * parts.rest;
    const float s = 1.0f / (1.0f + e);
    return {x < 0.0f ? e * s : s, e * s * s};
}

// Calls body.template operator()<T>() through a tag: `dispatch(code, [&](auto tag) { using T = decltype(tag); ... })`.
// Returns what body returns, or -1 for an unknown code.
template <typename Body>
int dispatch(int dtype, Body body) {
    switch (dtype) {
        case FLOAT32: return body(float{});
        case BFLOAT16: return body(bfloat16{});
        case FLOAT16: return body(float16{});
        default: return -1;
    }
}

}  // namespace autoresearch
