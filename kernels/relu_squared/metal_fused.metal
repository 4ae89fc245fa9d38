// Squared ReLU, forward and backward.
//
// x, g (elements,) of T: float, half or bfloat; y and dx as x. Launch: one thread per element, 256 to a threadgroup, the
// last one ragged (`flat_launch`): grid (elements, 1, 1), threadgroup (256, 1, 1).

//! kernel square(x) -> (y)
const uint place = thread_position_in_grid.x;
const float value = float(x[place]);
y[place] = T(value <= 0.0f ? 0.0f : value * value);  // in this form a NaN stays one

//! kernel differentiate(g, x) -> (dx)
const uint place = thread_position_in_grid.x;
const float value = float(x[place]);
dx[place] = T((value <= 0.0f ? 0.0f : 2.0f * value) * float(g[place]));
