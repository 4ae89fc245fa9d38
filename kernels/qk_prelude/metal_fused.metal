// Rotation and root-mean-square normalisation of queries and keys, forward and backward, nothing kept in between.
//
// q, gq (B, T, H, D) of TQ and k, gk (B, T, K, D) of TK, any strides; cosines, sines (1, T, 1, D/2), any strides; eps a
// number; results row-major, in the types of q and k: float, half or bfloat.
// Launch: one simdgroup per head, of queries first, then of keys, four to a threadgroup: grid (32, H + K, B T),
// threadgroup (32, 4, 1), ragged in whole simdgroups. The lanes step through the pairs together. No threadgroup memory.

// Two numbers turned by minus the angle: a rotated pair.
inline float2 turned(float first, float second, float c, float s) {
    return float2(fma(first, c, second * s), fma(second, c, -first * s));
}

//! kernel forward(q, k, cosines, sines, eps) -> (rq, rk) strided
const int lane = int(thread_index_in_simdgroup);
const int heads = q_shape[2];
const int width = q_shape[3];
const int pairs = width / 2;
const int64_t time = thread_position_in_grid.z % uint(q_shape[1]);
const int64_t batch = thread_position_in_grid.z / uint(q_shape[1]);
const bool query = int(thread_position_in_grid.y) < heads;
const int64_t head = int(thread_position_in_grid.y) - (query ? 0 : heads);
const int64_t step = query ? q_strides[3] : k_strides[3];
const int64_t from = query ? batch * q_strides[0] + time * q_strides[1] + head * q_strides[2]
                           : batch * k_strides[0] + time * k_strides[1] + head * k_strides[2];
float squares = 0.0f;
for (int pair = lane; pair < pairs; pair += 32) {
    const int64_t one = from + pair * step, other = from + (pair + pairs) * step;
    const float c = float(cosines[time * cosines_strides[1] + pair * cosines_strides[3]]);
    const float s = float(sines[time * sines_strides[1] + pair * sines_strides[3]]);
    const float2 z = query ? turned(float(q[one]), float(q[other]), c, s) : turned(float(k[one]), float(k[other]), c, s);
    squares += z.x * z.x + z.y * z.y;
}
const float reciprocal = reciprocal_rms(simd_sum(squares), width, eps);
const size_t to = (size_t(thread_position_in_grid.z) * (query ? heads : k_shape[2]) + head) * width;
for (int pair = lane; pair < pairs; pair += 32) {
    const int64_t one = from + pair * step, other = from + (pair + pairs) * step;
    const float c = float(cosines[time * cosines_strides[1] + pair * cosines_strides[3]]);
    const float s = float(sines[time * sines_strides[1] + pair * sines_strides[3]]);
    if (query) {
        const float2 z = turned(float(q[one]), float(q[other]), c, s);
        rq[to + pair] = TQ(z.x * reciprocal);
        rq[to + pair + pairs] = TQ(z.y * reciprocal);
    } else {
        const float2 z = turned(float(k[one]), float(k[other]), c, s);
        rk[to + pair] = TK(z.x * reciprocal);
        rk[to + pair + pairs] = TK(z.y * reciprocal);
    }
}

//! kernel backward(gq, gk, q, k, cosines, sines, eps) -> (dq, dk) strided
// Through the norm of the pair z, turned from x, to dz, and dz turned back.
const int lane = int(thread_index_in_simdgroup);
const int heads = q_shape[2];
const int width = q_shape[3];
const int pairs = width / 2;
const int64_t time = thread_position_in_grid.z % uint(q_shape[1]);
const int64_t batch = thread_position_in_grid.z / uint(q_shape[1]);
const bool query = int(thread_position_in_grid.y) < heads;
const int64_t head = int(thread_position_in_grid.y) - (query ? 0 : heads);
const int64_t step = query ? q_strides[3] : k_strides[3];
const int64_t from = query ? batch * q_strides[0] + time * q_strides[1] + head * q_strides[2]
                           : batch * k_strides[0] + time * k_strides[1] + head * k_strides[2];
const int64_t gradient_step = query ? gq_strides[3] : gk_strides[3];
const int64_t gradient_from = query ? batch * gq_strides[0] + time * gq_strides[1] + head * gq_strides[2]
                                    : batch * gk_strides[0] + time * gk_strides[1] + head * gk_strides[2];
float squares = 0.0f, products = 0.0f;
for (int pair = lane; pair < pairs; pair += 32) {
    const int64_t one = from + pair * step, other = from + (pair + pairs) * step;
    const int64_t up = gradient_from + pair * gradient_step, down = gradient_from + (pair + pairs) * gradient_step;
    const float c = float(cosines[time * cosines_strides[1] + pair * cosines_strides[3]]);
    const float s = float(sines[time * sines_strides[1] + pair * sines_strides[3]]);
    const float2 z = query ? turned(float(q[one]), float(q[other]), c, s) : turned(float(k[one]), float(k[other]), c, s);
    const float2 g = query ? float2(float(gq[up]), float(gq[down])) : float2(float(gk[up]), float(gk[down]));
    squares += z.x * z.x + z.y * z.y;
    products += g.x * z.x + g.y * z.y;
}
squares = simd_sum(squares);
products = simd_sum(products);
const float reciprocal = reciprocal_rms(squares, width, eps);
const float share = norm_share(products, squares, width, eps);
const size_t to = (size_t(thread_position_in_grid.z) * (query ? heads : k_shape[2]) + head) * width;
for (int pair = lane; pair < pairs; pair += 32) {
    const int64_t one = from + pair * step, other = from + (pair + pairs) * step;
    const int64_t up = gradient_from + pair * gradient_step, down = gradient_from + (pair + pairs) * gradient_step;
    const float c = float(cosines[time * cosines_strides[1] + pair * cosines_strides[3]]);
    const float s = float(sines[time * sines_strides[1] + pair * sines_strides[3]]);
    const float2 z = query ? turned(float(q[one]), float(q[other]), c, s) : turned(float(k[one]), float(k[other]), c, s);
    const float2 g = query ? float2(float(gq[up]), float(gq[down])) : float2(float(gk[up]), float(gk[down]));
    const float first = norm_gradient(g.x, z.x, share, reciprocal);
    const float second = norm_gradient(g.y, z.y, share, reciprocal);
    const float2 d = turned(first, second, c, -s);
    if (query) {
        dq[to + pair] = TQ(d.x);
        dq[to + pair + pairs] = TQ(d.y);
    } else {
        dk[to + pair] = TK(d.x);
        dk[to + pair + pairs] = TK(d.y);
    }
}
