// The scaled residual stream and its norm, forward and backward.
//
// x, x0, gm, gn (rows, width) of T: float, half or bfloat, row-major; resid, start, eps numbers (resid and start 0-
// dimensional float arrays); mixed, normed, dx, dx0 as x. shares (rows, 2) float: every row's part of the gradients of
// the two factors; what calls adds them up, in an order that is always the same.
// The norm is that of the exact stream, before it is rounded; backward mixes again instead of keeping it.
// Launch: one threadgroup per row, a simdgroup for every 128 elements of it, at most 32 (`row_launch`): grid
// (threads, rows, 1), threadgroup (threads, 1, 1). Threadgroup memory: 128 bytes.

//! kernel mix(x, x0, resid, start, eps) -> (mixed, normed)
threadgroup float partials[32];
const int width = x_shape[1];
const int threads = int(threads_per_threadgroup.x);
const int first = int(thread_position_in_threadgroup.x);
const size_t row = size_t(threadgroup_position_in_grid.y) * size_t(width);
float squares = 0.0f;
for (int column = first; column < width; column += threads) {
    const float value = resid * float(x[row + column]) + start * float(x0[row + column]);
    mixed[row + column] = T(value);
    squares += value * value;
}
squares = group_sum(
    squares, partials, thread_index_in_simdgroup, simdgroup_index_in_threadgroup, simdgroups_per_threadgroup);
const float reciprocal = reciprocal_rms(squares, width, eps);
for (int column = first; column < width; column += threads) {
    const float value = resid * float(x[row + column]) + start * float(x0[row + column]);
    normed[row + column] = T(value * reciprocal);
}

//! kernel differentiate(gm, gn, x, x0, resid, start, eps) -> (dx, dx0, shares)
// The stream's cotangent is its own, gm, and what comes back through the norm from gn.
threadgroup float partials[32];
const int width = x_shape[1];
const int threads = int(threads_per_threadgroup.x);
const int first = int(thread_position_in_threadgroup.x);
const uint lane = thread_index_in_simdgroup;
const uint simdgroup = simdgroup_index_in_threadgroup;
const uint simdgroups = simdgroups_per_threadgroup;
const size_t row = size_t(threadgroup_position_in_grid.y) * size_t(width);
float squares = 0.0f, products = 0.0f;
for (int column = first; column < width; column += threads) {
    const float value = resid * float(x[row + column]) + start * float(x0[row + column]);
    squares += value * value;
    products += float(gn[row + column]) * value;
}
squares = group_sum(squares, partials, lane, simdgroup, simdgroups);
products = group_sum(products, partials, lane, simdgroup, simdgroups);
const float reciprocal = reciprocal_rms(squares, width, eps);
const float share = norm_share(products, squares, width, eps);
float along_x = 0.0f, along_x0 = 0.0f;
for (int column = first; column < width; column += threads) {
    const size_t place = row + column;
    const float stream = float(x[place]), origin = float(x0[place]);
    const float value = resid * stream + start * origin;
    const float total = float(gm[place]) + norm_gradient(float(gn[place]), value, share, reciprocal);
    dx[place] = T(resid * total);
    dx0[place] = T(start * total);
    along_x += total * stream;
    along_x0 += total * origin;
}
along_x = group_sum(along_x, partials, lane, simdgroup, simdgroups);
along_x0 = group_sum(along_x0, partials, lane, simdgroup, simdgroups);
if (first == 0) {
    shares[2 * threadgroup_position_in_grid.y] = along_x;
    shares[2 * threadgroup_position_in_grid.y + 1] = along_x0;
}
