#include "alloc/sample.h"

#include "base/atomic.h"
#include "base/bits.h"
#include "os/os.h"

size_t sample_distance;
uint32_t sample_epoch;
uint64_t sample_seed;

/* ---- random numbers, and the functions of the C library's mathematical part that this needs, without that part ---- */

enum { RANDOM_BITS = 53 }; /* as many as a double holds */

static uint64_t mix(uint64_t value) {
  value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
  return value ^ (value >> 31);
}

static uint64_t next_random(uint64_t *state) { return mix(*state += UINT64_C(0x9e3779b97f4a7c15)); }

/* The natural logarithm of value / 2^RANDOM_BITS, for a value that is not 0: that of its highest bit, and of the rest, which
 * lies in [1, 2), by the series of the inverse hyperbolic tangent.  Its terms fall by 9. */
static double log_of_fraction(uint64_t value) {
  static const double log_2 = 0.69314718055994530942;
  enum { TERMS = 14 };
  unsigned exponent = highest_bit(value);
  double rest = (double)value / (double)(UINT64_C(1) << exponent);
  double ratio = (rest - 1) / (rest + 1), square = ratio * ratio, sum = 0;
  for (int i = TERMS - 1; i >= 0; i--) sum = sum * square + 1.0 / (2 * i + 1);
  return ((int)exponent - RANDOM_BITS) * log_2 + 2 * ratio * sum;
}

size_t sample_draw(uint64_t *random, size_t distance) {
  uint64_t value = (next_random(random) >> (64 - RANDOM_BITS)) + 1;
  return distance == 1 ? 0 : (size_t)(-log_of_fraction(value) * (double)distance);
}

/* f(x) = 1 - exp(-x) by its series where x is small, and from there by f(2x) = f(x) (2 - f(x)). */
double sample_probability(size_t bytes, size_t distance) {
  enum { TERMS = 8 };
  double x = (double)bytes / (double)distance, sum = 0;
  unsigned doublings = 0;
  if (distance == 1) return 1;
  for (; x > 1.0 / 16; x /= 2) doublings++;
  for (int i = TERMS; i > 0; i--) sum = x / i * (1 - sum);
  for (; doublings != 0; doublings--) sum *= 2 - sum;
  return sum;
}

/* ---- samplers ---- */

static uint64_t first_random(const struct sampler *sampler) {
  return sample_seed != 0 ? sample_seed : mix(os_now_ns() ^ mix((uintptr_t)sampler ^ (uint64_t)os_thread_id() << 48));
}

bool sampler_follow(struct sampler *sampler) {
  uint32_t epoch = atomic_load_acquire(&sample_epoch);
  size_t distance = atomic_load_relaxed(&sample_distance);
  if (sampler->epoch == epoch || distance == 0) return false;
  sampler->epoch = epoch;
  sampler->distance = distance;
  sampler->random = first_random(sampler);
  sampler->left = sample_draw(&sampler->random, distance);
  return true;
}

/* A window may always hold one slot: the one with the point. */
size_t sampler_window_bytes(const struct sampler *sampler, size_t most_bytes) {
  return sampler->is_paused ? most_bytes : max_size(min_size(sampler->left, most_bytes), 1);
}

bool sampler_pass(struct sampler *sampler, size_t bytes) {
  if (sampler->is_paused) return false;
  if (sampler->left >= bytes) {
    sampler->left -= bytes;
    return false;
  }
  sampler->left = sample_draw(&sampler->random, sampler->distance);
  return true;
}
