/* Which allocations the heap profile sees (gc/profile.h).
 *
 * Think of all that a thread allocates, slot after slot, as one line of bytes on which points lie at random: the distance
 * from each to the next is drawn from the exponential distribution with the mean `sample_distance`.  An object is sampled
 * if a point lies on it.  That happens with the probability 1 - exp(-bytes / distance), whatever was sampled before, so who
 * knows the size of a sampled object knows how many objects it stands for.  A distance of 1 samples every object.
 *
 * The fast path knows nothing of this.  A thread's cache asks its sampler when it opens a window: a window ends before the
 * slot on which the next point lies, and that slot is a window of its own, so that its object comes by the slow path.  Slots
 * count when they come into a window.
 *
 * A sampler belongs to its thread, and is used in critical sections.  `sample_distance` and `sample_epoch` are written by who
 * starts and stops a profile, the epoch first. */
#ifndef MIDDEN_ALLOC_SAMPLE_H
#define MIDDEN_ALLOC_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SAMPLE_DISTANCE_MAX ((size_t)1 << 40) /* bytes; any draw fits in a word */

struct sampler {
  size_t left;     /* bytes before the next point */
  size_t distance; /* as it was when `epoch` was */
  uint64_t random; /* state of the generator */
  uint32_t epoch;  /* the profile that all this is for */
  bool is_paused;  /* nothing is sampled, nothing counts: its thread is busy with a sample */
};

extern size_t sample_distance; /* mean, in bytes; 0: nothing is sampled.  Atomic */
extern uint32_t sample_epoch;  /* number of the latest profile, from 1.  Atomic */

/* Tests: what the generators of the next profile begin with; 0: with what differs each time. */
extern uint64_t sample_seed;

/* Begins anew where another profile has begun since, and says so. */
bool sampler_follow(struct sampler *sampler);

/* How long a window of at most `most_bytes` may be. */
size_t sampler_window_bytes(const struct sampler *sampler, size_t most_bytes);

/* Passes the next `bytes`: whether the object that they are is sampled. */
bool sampler_pass(struct sampler *sampler, size_t bytes);

/* The bytes before the next point. */
size_t sample_draw(uint64_t *random, size_t distance);

/* The probability that an object of `bytes`, not 0, is sampled. */
double sample_probability(size_t bytes, size_t distance);

#endif
