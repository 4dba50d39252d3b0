/* Rounding, bit arithmetic, hashing of addresses. */
#ifndef MIDDEN_BASE_BITS_H
#define MIDDEN_BASE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* `unit` is a power of two in all three. */
static inline uintptr_t round_up(uintptr_t value, uintptr_t unit) { return (value + unit - 1) & ~(unit - 1); }
static inline uintptr_t round_down(uintptr_t value, uintptr_t unit) { return value & ~(unit - 1); }
static inline bool is_aligned(uintptr_t value, uintptr_t unit) { return (value & (unit - 1)) == 0; }

static inline bool is_power_of_two(uintptr_t value) { return value != 0 && (value & (value - 1)) == 0; }

/* Neither is defined for 0. */
static inline unsigned lowest_bit(uint64_t word) { return (unsigned)__builtin_ctzll(word); }
static inline unsigned highest_bit(uint64_t word) { return 63u - (unsigned)__builtin_clzll(word); }

/* Where an address has its place in a hash table of so many, a power of two and at least 2.  Fibonacci hashing: addresses differ in
 * their middle bits, which the multiplication carries to the top. */
static inline size_t hash_address(uintptr_t address, size_t places) {
  return (size_t)((address >> 3) * UINT64_C(0x9e3779b97f4a7c15) >> (64 - highest_bit(places)));
}

static inline unsigned count_bits(uint64_t word) { return (unsigned)__builtin_popcountll(word); }

/* A size has 64 bits: numbers of nanoseconds go by these, too. */
static inline size_t min_size(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t max_size(size_t a, size_t b) { return a > b ? a : b; }
static inline size_t add_saturating(size_t a, size_t b) { return a > SIZE_MAX - b ? SIZE_MAX : a + b; }
static inline double min_double(double a, double b) { return a < b ? a : b; }
static inline double max_double(double a, double b) { return a > b ? a : b; }

#endif
