// Rotary position embedding: the pairs (i, i + D/2) of every head turn by minus the angle of their position, or by plus
// it for the gradient.
//
// x (B, T, H, D) of T, any strides; cos, sin (1, T, 1, D/2), any strides; y (B, T, H, D) row-major of T: float, half or
// bfloat. BACK turns the other way.
// Launch: one thread per pair: grid (D/2, H, B T), threadgroup (64, 4, 1), ragged. No threadgroup memory.

//! kernel rotate(x, cosines, sines) -> (y) strided
const uint pair = thread_position_in_grid.x;
const uint head = thread_position_in_grid.y;
const int64_t time = thread_position_in_grid.z % uint(x_shape[1]);
const int64_t batch = thread_position_in_grid.z / uint(x_shape[1]);
const int half_width = x_shape[3] / 2;
const int64_t from = batch * x_strides[0] + time * x_strides[1] + head * x_strides[2] + pair * x_strides[3];
const float first = float(x[from]);
const float second = float(x[from + half_width * x_strides[3]]);
const float c = float(cosines[time * cosines_strides[1] + pair * cosines_strides[3]]);
const float turn = float(sines[time * sines_strides[1] + pair * sines_strides[3]]);
const float s = BACK ? -turn : turn;
const size_t to = (size_t(thread_position_in_grid.z) * x_shape[2] + head) * x_shape[3] + pair;
y[to] = T(fma(first, c, second * s));
y[to + half_width] = T(fma(second, c, -first * s));
