// The gated value embedding, forward and backward.
//
// v, ve, g (heads, width) and gate (heads,) of T: float, half or bfloat, row-major; results alike.
// Launch: one simdgroup per head, four to a threadgroup, the last one ragged (`head_launch`): grid (32, heads, 1),
// threadgroup (32, 4, 1). The lanes step through the head together. No threadgroup memory.

// 1 / (1 + exp(-gate)); exp may overflow to infinity, which gives 0.
inline float sigmoid(float gate) {
    return 1.0f / (1.0f + precise::exp(-gate));
}

//! kernel mix(v, ve, gate) -> (y)
const int width = v_shape[1];
const uint head = thread_position_in_grid.y;
const float opened = 2.0f * sigmoid(float(gate[head]));
for (int column = int(thread_index_in_simdgroup); column < width; column += 32) {
    const size_t place = size_t(head) * size_t(width) + column;
    y[place] = T(fma(opened, float(ve[place]), float(v[place])));
}

//! kernel differentiate(g, ve, gate) -> (dve, dgate)
// dve = 2 s g, dgate = 2 s (1 - s) sum(g ve), with s (1 - s) = e / (1 + e)^2, e = exp(-|gate|): nothing cancels.
const int width = g_shape[1];
const uint head = thread_position_in_grid.y;
const float before = float(gate[head]);
const float opened = 2.0f * sigmoid(before);
float products = 0.0f;
for (int column = int(thread_index_in_simdgroup); column < width; column += 32) {
    const size_t place = size_t(head) * size_t(width) + column;
    const float gradient = float(g[place]);
    products = fma(gradient, float(ve[place]), products);
    dve[place] = T(opened * gradient);
}
products = simd_sum(products);
if (thread_index_in_simdgroup == 0) {
    const float e = precise::exp(-fabs(before));
    dgate[head] = T(2.0f * e / ((1.0f + e) * (1.0f + e)) * products);
}
