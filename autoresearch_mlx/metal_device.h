// Arithmetic that several Metal kernels share; `metal_kit` puts it before each file's own header.

// Sum over all threads of a threadgroup of up to 1024 threads, every one of which has to call it and gets the sum.
// `partials` holds 32 floats; it may be used again at once.
inline float group_sum(float value, threadgroup float* partials, uint lane, uint simdgroup, uint simdgroups) {
    value = simd_sum(value);
    if (simdgroups == 1) {
        return value;
    }
    if (lane == 0) {
        partials[simdgroup] = value;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    value = simd_sum(lane < simdgroups ? partials[lane] : 0.0f);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    return value;
}

// 1 / sqrt(mean square + eps) of a row of `width` numbers with this sum of squares.
inline float reciprocal_rms(float squares, int width, float eps) {
    return precise::rsqrt(squares / float(width) + eps);
}

// Backward through y = x r, r being reciprocal_rms: dx = r (g - x share), share = sum(g x) / (sum(x^2) + width eps).
// `products` is sum(g x). Rounding r does not disturb the difference, which nearly cancels where g and x are parallel.
inline float norm_share(float products, float squares, int width, float eps) {
    return products / fma(float(width), eps, squares);
}

inline float norm_gradient(float g, float x, float share, float reciprocal) {
    return reciprocal * fma(-x, share, g);
}
