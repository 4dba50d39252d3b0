/* Generations without moving anything: what survived a cycle is old, and a minor cycle takes all that is old for alive.
 *
 * Sticky marks (span/sticky.h) say what is old.  A minor cycle starts with them instead of with none, and its first step is
 * to read again the old objects in pages that were written since the last cycle, or on cards that the barrier has noted
 * (gc/remembered.h): what refers to a young object without having been written since refers to it by a root.  The rest is
 * the cycle of dirty.c or concurrent.c.  Old garbage stays until a full cycle.
 *
 *     what the marks say        after                                                      may follow
 *     nothing                   start; a fork's child; a cycle that was taken back,        full
 *                               that stopped the world for all of it, or that lost sight
 *                               of what was written
 *     what is old               a cycle beside the program, full or minor                  minor, full
 *
 * Whether it pays is measured: the processor time for each byte that cycles freed.  Where the last few minor ones did not do
 * much better than the last few full ones, some full ones follow before another is tried.  A full one that freed little, of a
 * heap that grew, tells little of the next: after it minor ones may cost as much as it did together, twice as much after the
 * next such, and so on.  Whatever pays, a full cycle comes after 64 minor ones, since what was dropped when it was old is to be
 * found though the heap does not grow, and when what survived minor ones has taken half of the room that the last full one
 * left; their goal stays that of the last full one, so that the heap grows no larger than without them, but for a quarter of
 * that room at most where they free little.
 *
 * Sticky mark bits are from A. Demers et al., "Combining Generational and Conservative Garbage Collection: Framework and
 * Implementations", POPL 1990.
 *
 * Everything here belongs to the thread that holds the collector lock. */
#ifndef MIDDEN_GC_GENERATION_H
#define MIDDEN_GC_GENERATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "midden/midden.h"

/* Arithmetic on what the caller measured: no clock, no globals. */
struct generation {
  enum midden_generations choice;
  bool has_old;       /* the marks say what is old */
  bool minor;         /* the last cycle was */
  unsigned minors;    /* since the last full one */
  size_t full_bytes;  /* alive after the last full cycle */
  size_t room_bytes;  /* from there to its goal */
  size_t old_bytes;   /* alive after the last cycle */
  size_t freed_bytes; /* by the last cycle */
  struct generation_cost {
    double cpu_ns, freed_bytes; /* of the last few cycles */
  } full_cost, minor_cost;
  unsigned barred;  /* full cycles until a minor one is tried again */
  unsigned most;    /* minor cycles may cost so many times what the last full one did; 0: it told what full ones do */
  double full_ns;   /* the last full cycle */
  double minors_ns; /* those since then */
};

/* Whether the next cycle is to be a minor one, if nobody asks for a full one. */
bool generation_wants_minor(const struct generation *generation);

/* A cycle beside the program has ended, and the marks say what is old.  Alive before, with what was allocated meanwhile, and
 * after; the next goal. */
void generation_ended(struct generation *generation, bool minor, size_t before_bytes, size_t after_bytes,
                      size_t goal_bytes);

/* What the goal follows from has changed: where the last full cycle would set it now. */
void generation_revise(struct generation *generation, size_t goal_bytes);

/* What it took. */
void generation_charge(struct generation *generation, uint64_t cpu_ns);

/* The marks say nothing any more. */
void generation_forget(struct generation *generation);

#endif
