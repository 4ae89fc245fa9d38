// What a translated kernel includes, in this order: the language's library, MLX's helpers, and last the words of the
// language that C++ lacks. `threadgroup` is not among them: declarations with it are rewritten beforehand.
#pragma once
#include "mlx_utils.h"

#define METAL_FUNC inline
#define MLX_MTL_PRAGMA_UNROLL
#define __METAL__ 1
#define __METAL_VERSION__ 310
#define device
#define constant
#define thread
#define kernel
