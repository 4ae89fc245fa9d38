// One AdamW step: one pass over four arrays of one shape, any number of axes.
//
// step: each thread takes 4 neighbouring elements; grid (ceil(size / 4) rounded up to whole threadgroups, 1, 1).
//       Nothing is shared between threads. Arithmetic is float32; each result is rounded once to its array's type.
//
// factors (6,) float32: 1 - beta1, beta2, 1 - beta2, 1 - lr * weight_decay, lr / (1 - beta1^step), 1 / (1 - beta2^step);
// eps () float32; size () the number of elements.

//! kernel step(p, grad, exp_avg, exp_avg_sq, factors, eps, size) -> (new_p, new_exp_avg, new_exp_avg_sq)
uint first = 4 * thread_position_in_grid.x;
for (uint i = first; i < min(first + 4, uint(size)); ++i) {
    float slope = float(grad[i]);
    float m = float(exp_avg[i]);
    m += factors[0] * (slope - m);
    float v = factors[1] * float(exp_avg_sq[i]) + factors[2] * slope * slope;
    float root = precise::sqrt(v * factors[5]) + eps;
    new_p[i] = static_cast<T>(float(p[i]) * factors[3] - factors[4] * (m / root));
    new_exp_avg[i] = static_cast<M>(m);
    new_exp_avg_sq[i] = static_cast<V>(v);
}
