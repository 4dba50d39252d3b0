/* A page heap to experiment on: fake addresses that nobody touches, so that it may be larger than the machine.
 *
 * The span structures and the tables are real, and so is everything that the page heap does; only the pages are not
 * there.  Giving them back to the system succeeds and does nothing, the clock counts its own calls, and reclaiming, for
 * which the heap asks as it would in the library, finds nothing.
 *
 * A lab keeps the spans that are in use in a list from which any can be drawn.  One lab a process: span structures are
 * never given back.  A lab that runs out of memory ends the process. */
#ifndef BENCH_PAGEHEAP_LAB_H
#define BENCH_PAGEHEAP_LAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "page/arena.h"
#include "page/pageheap.h"

struct lab {
  struct arena arena;
  struct pageheap heap;
  uint64_t random;    /* state of the generator */
  struct span **held; /* spans in use that a shape may free; as many as there are pages fit */
  size_t held_count;
  size_t laid_pages;    /* by lab_lay */
  size_t largest_pages; /* of the free spans that the shape made, where its steps need to know */
  size_t asked_pages;   /* pages that allocations have asked for so far */
  size_t asked_count;   /* those allocations */
  size_t refused_count; /* allocations for which nothing was free */
};

void lab_open(struct lab *lab, size_t bytes, uint64_t seed);

/* A number below `bound`, or from `low` to below `high`. */
size_t lab_random(struct lab *lab, size_t bound);
size_t lab_random_between(struct lab *lab, size_t low, size_t high);

/* From 1 to `limit`, a power of two: every power of two up to it as likely as the next. */
size_t lab_random_size(struct lab *lab, size_t limit);

/* Shapes lay out the arena from its start to its end before they free anything: a span right behind the last one, and how
 * many pages are left for more. */
struct span *lab_lay(struct lab *lab, size_t pages);
size_t lab_pages_left(const struct lab *lab);

/* A span of what is free, not held; NULL, and counted, where no free span is large enough. */
struct span *lab_take(struct lab *lab, size_t pages, size_t alignment);

void lab_hold(struct lab *lab, struct span *span);

/* Frees the held span of that number; the last one gets the number. */
void lab_drop(struct lab *lab, size_t index);

/* Frees all spans held, in random order. */
void lab_drop_all(struct lab *lab);

/* Comparisons and rotations of the trees so far. */
uint64_t lab_tree_steps(const struct lab *lab);

#endif
