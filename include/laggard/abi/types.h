// SPDX-License-Identifier: MIT
// Fixed-width names that mean the same to g++, to clang and to clang -target bpf.
#ifndef LAGGARD_ABI_TYPES_H
#define LAGGARD_ABI_TYPES_H

#include <linux/types.h>

#ifdef __cplusplus
#define LAGGARD_ABI_ASSERT(condition, text) static_assert(condition, text)
#else
#define LAGGARD_ABI_ASSERT(condition, text) _Static_assert(condition, text)
#endif

#endif
